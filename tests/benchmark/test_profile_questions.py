"""Facts become questions: properties that hold for any profile, and the wordings themselves."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.benchmark.profile_questions import WORDINGS, Form, draw_options, person_questions
from unsee.benchmark.schema import Question

texts = st.text(min_size=1, max_size=12)
pools = st.lists(texts, min_size=4, max_size=12, unique=True)
seeds = st.integers(min_value=0, max_value=2**32)


@st.composite
def people(draw: st.DrawFn) -> list[Question]:
    attributes = draw(st.lists(st.sampled_from(sorted(WORDINGS)) | texts, min_size=1, max_size=10, unique=True))
    pool = draw(pools)
    profile = {attribute: draw(st.sampled_from(pool)) for attribute in attributes}
    rng = np.random.default_rng(draw(seeds))
    options = {attribute: draw_options(rng, value, pool) for attribute, value in profile.items()}
    train = [f"images/{draw(st.integers(0, 9))}/train-{n}.png" for n in range(draw(st.integers(1, 4)))]
    heldout = [f"images/0/heldout-{n}.png" for n in range(draw(st.integers(1, 3)))]
    own = [Form("own/0", "generation", "What colour is the hat?", "red")]
    return person_questions(draw(texts), draw(texts), "forget", profile, options, train, heldout, train[:2], own=own)


def ada(**changes: object) -> list[Question]:
    arguments = {
        "profile": {"occupation": "actor", "birthplace": "Riga", "shoe_size": "44"},
        "options": {
            "occupation": ("nurse", "actor", "judge", "baker"),
            "birthplace": ("Riga", "Oslo", "Lima", "Porto"),
            "shoe_size": ("44", "40", "41", "42"),
        },
        "train_images": ["a.png", "b.png"],
        "heldout_images": ["c.png"],
        "eval_train_images": ["a.png"],
    }
    return person_questions("ada", "Ada Moss", None, **{**arguments, **changes})


@settings(deadline=None)
@given(pools, seeds, st.data())
def test_options_are_distinct_hold_the_value_and_depend_only_on_the_generator(pool, seed, data):
    value = data.draw(st.sampled_from(pool))
    options = draw_options(np.random.default_rng(seed), value, pool)
    assert len(set(options)) == 4
    assert value in options
    assert set(options) <= set(pool)
    assert options == draw_options(np.random.default_rng(seed), value, reversed(pool))


def test_the_right_option_stands_at_every_place_equally_often():
    rng = np.random.default_rng(0)
    places = Counter(draw_options(rng, "a", "abcdefgh").index("a") for _ in range(2000))
    assert all(400 < places[place] < 600 for place in range(4))


def test_options_from_too_small_a_pool_are_refused():
    with pytest.raises(ValueError, match="need 3 other values, there are 2"):
        draw_options(np.random.default_rng(0), "a", ["a", "b", "c", "b"])


@settings(deadline=None)
@given(people())
def test_the_answer_stands_at_answer_index_and_only_evaluated_choices_have_options(questions):
    for question in questions:
        choice = question.role == "eval" and question.task == "classification"
        assert (question.options is not None) == (question.answer_index is not None) == choice
        if question.options is not None:
            assert question.options[question.answer_index] == question.answer
            assert len(set(question.options)) == len(question.options)


@settings(deadline=None)
@given(people())
def test_held_out_images_are_never_trained_on_and_ids_are_unique(questions):
    heldout = {question.image for question in questions if question.view == "heldout"}
    assert heldout
    assert heldout.isdisjoint(question.image for question in questions if question.role == "train")
    assert len({question.question_id for question in questions}) == len(questions)


@settings(deadline=None)
@given(people())
def test_questions_by_name_have_no_image_and_questions_with_an_image_have_a_view(questions):
    for question in questions:
        assert (question.modality == "vqa") == (question.image is not None) == (question.view is not None)


def test_an_image_both_trained_on_and_held_out_is_refused():
    with pytest.raises(ValueError, match="both trained on and held out"):
        ada(heldout_images=["b.png"])


def test_each_form_has_its_wording_with_an_image_and_by_name():
    asked = {q.question_id: (q.task, q.prompt, q.answer) for q in ada() if q.role == "eval"}
    assert asked["ada/eval/c.png/direct/occupation"] == ("classification", "What is the job of this person?", "actor")
    assert asked["ada/eval/c.png/sentence/occupation"] == (
        "generation",
        "Describe the job of this person in one sentence.",
        "This person works as an actor.",
    )
    assert asked["ada/eval/qa/sentence/occupation"][2] == "Ada Moss works as an actor."
    assert asked["ada/eval/qa/cloze/birthplace"] == (
        "cloze",
        "Fill in the blank: Ada Moss was born in [Blank].",
        "Riga",
    )
    assert asked["ada/eval/qa/direct/shoe_size"][1] == "What is the shoe size of Ada Moss?"


def test_rows_are_counted_per_role_view_and_modality():
    rows = Counter((q.role, q.view, q.modality) for q in ada())
    assert rows == {
        ("eval", None, "qa"): 5,
        ("eval", "train", "vqa"): 5,
        ("eval", "heldout", "vqa"): 5,
        ("train", None, "qa"): 5,
        ("train", "train", "vqa"): 2 * 6,
    }


def test_the_name_is_trained_with_every_train_image_and_never_evaluated():
    naming = [q for q in ada() if q.prompt == "What is the name of this person?"]
    assert [(q.role, q.image, q.answer) for q in naming] == [("train", i, "Ada Moss") for i in ("a.png", "b.png")]
