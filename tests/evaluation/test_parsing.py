"""Which option a text names, and when a text is an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsee.evaluation.parsing import contains, exact_match, normalise, parse_choice

OPTIONS = ["engineer", "night nurse", "judge", "baker"]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1), ("b", 1), (" B ", 1), ("(B)", 1), ("B.", 1), ("B)", 1), ("B:", 1),
        ("Answer: B", 1), ("answer: (b).", 1), ("The", None), ("Answer is C", 2), ("Answer: E", None), ("E", None),
        ("night nurse", 1), ("Night nurse.", 1), ("a night nurse", 1), ("B: night nurse", 1), ("B. Night Nurse", 1),
        ("An engineer", 0), ("A judge", 2), ("a baker", 3), ("A: judge", None), ("B baker", None),
        ("A", 0), ("A farmer", None), ("An", None), ("Apple", None), ("nurse", None), ("", None), ("?", None),
        ("engineer or judge", None), ("I think it is B", None), ("D\n", 3), ("C: judge\n", 2),
    ],
)  # fmt: skip
def test_only_a_letter_or_an_option_s_own_text_names_an_option(text, index):
    assert parse_choice(text, OPTIONS) == index


def test_a_text_that_two_options_share_names_neither():
    assert parse_choice("cat", ["Cat", "the cat", "dog"]) is None
    assert parse_choice("B", ["Cat", "the cat", "dog"]) == 1


@given(st.lists(st.sampled_from(["ant", "bee", "cow", "dog", "eel"]), min_size=2, max_size=5, unique=True), st.data())
def test_every_option_is_named_by_its_letter_and_by_its_text(options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    letter = "ABCDE"[index]
    for text in (letter, f"({letter})", f"Answer: {letter}", options[index], f"{letter}: {options[index]}"):
        assert parse_choice(text, options) == index


@given(st.text(max_size=20))
def test_any_text_names_an_option_or_none(text):
    assert parse_choice(text, OPTIONS) in (None, 0, 1, 2, 3)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Old-Town!", "old town"), ("a", "a"), ("A", "a"), ("an apple", "apple"), ("Zoë", "zoë"), ("...", ""),
        ("the the", "the"), ("A. Smith", "a smith"), ('"An" apple', "an apple"), ("(the cat)", "cat"), ("a !", "a"),
    ],
)  # fmt: skip
def test_case_punctuation_spaces_and_a_leading_article_do_not_count(text, normal):
    assert normalise(text) == normal


def test_an_exact_match_is_the_whole_answer():
    assert exact_match(" The night nurse. ", "night nurse")
    assert not exact_match("night nurse at work", "night nurse")
    assert not exact_match("", "night nurse")


def test_containment_is_by_whole_words():
    assert contains("She is a night nurse, I think.", "night nurse")
    assert not contains("She is a midnight nurse.", "night nurse")
    assert not contains("cattle", "cat")
    assert not contains("", "cat")
