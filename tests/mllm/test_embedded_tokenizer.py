"""The byte-level tokenizer: everything encodes to itself; the benchmark's words are one token each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.benchmark.embedded import ATTRIBUTES, FIRST_NAMES, LAST_NAMES
from unsee.mllm.embedded import make_tokenizer

TOKENIZER = make_tokenizer()


def encode(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_decodes_to_itself(text):
    assert TOKENIZER.decode(encode(text), skip_special_tokens=False) == text


@pytest.mark.parametrize("name", ["Zoë Şahin", "李小龍", "O'Brien-\u0301", "👩‍🚀", "  two  spaces ", "a\r\n\tb\x00"])
def test_any_name_decodes_to_itself(name):
    assert TOKENIZER.decode(encode(name)) == name


def test_the_words_of_the_benchmark_are_single_tokens():
    values = [value for values in ATTRIBUTES.values() for value in values]
    words = [word for text in (*values, *FIRST_NAMES, *LAST_NAMES) for word in text.split()]
    assert len(words) > 200
    assert {word: len(encode(f" {word}")) for word in words if len(encode(f" {word}")) != 1} == {}


def test_making_the_tokenizer_again_makes_the_same():
    assert make_tokenizer().get_vocab() == TOKENIZER.get_vocab()
