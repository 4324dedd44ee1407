"""Who is asked what, and how answers become predictions."""

from collections import Counter
from dataclasses import replace

import pytest

from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.evaluation.asking import Examiner
from unsee.evaluation.examination import examination, examine


@pytest.fixture(scope="module")
def request_(small_benchmark):
    return ForgetRequest.resolve(small_benchmark, [])


def test_every_evaluated_question_is_asked_as_it_stands(small_benchmark, request_):
    asked = [item for item in examination(small_benchmark, request_) if item.modality in ("vqa", "qa")]
    assert [item.question for item in asked] == small_benchmark.select(role="eval")
    assert all((item.modality, item.image) == (item.question.modality, item.question.image) for item in asked)


def test_choices_by_name_are_also_asked_with_the_own_and_with_another_s_heldout_portrait(small_benchmark, request_):
    owner = {q.image: q for q in small_benchmark.questions if q.image}
    asked = examination(small_benchmark, request_)
    by_name = small_benchmark.select(role="eval", modality="qa", task="classification")
    for modality in ("qa_with_face", "qa_with_other_face"):
        items = [item for item in asked if item.modality == modality]
        assert Counter(item.question for item in items) == Counter(by_name)
        for item in items:
            shown = owner[item.image]
            assert shown.view == "heldout"
            assert (shown.entity_id == item.question.entity_id) == (modality == "qa_with_face")
            assert request_.split_of[shown.entity_id] == request_.split_of[item.question.entity_id]


def test_a_set_of_one_person_has_no_other_face(small_benchmark):
    request = ForgetRequest.resolve(small_benchmark, ["P001"])
    asked = examination(small_benchmark, request)
    modalities = Counter(item.modality for item in asked if item.question.entity_id == "P001")
    assert modalities["qa_with_face"] == 9
    assert modalities["qa_with_other_face"] == 0


def test_a_person_without_heldout_portraits_is_not_asked_with_a_face(small_benchmark):
    questions = tuple(q for q in small_benchmark.questions if not (q.entity_id == "P001" and q.view == "heldout"))
    benchmark = Benchmark(small_benchmark.directory, "cut", questions)
    asked = examination(benchmark, ForgetRequest.resolve(benchmark, []))
    modalities = {item.modality for item in asked if item.question.entity_id == "P001"}
    assert modalities == {"vqa", "qa"}


class Parrot(Examiner):
    """An examiner that prefers the last option and says the same thing always."""

    def __init__(self, text, choice):
        super().__init__(None, None, 1, choice)
        self.text = text

    def scores(self, asked):
        return [[float(i) for i in range(len(item.question.options))] for item in asked]

    def answers(self, asked):
        return [self.text for _ in asked]


def predictions_of(benchmark, request, text, *, choice="options", generate=True):
    return examine(Parrot(text, choice), examination(benchmark, request), request, generate=generate)


def test_the_likeliest_option_is_chosen_and_compared(small_benchmark, request_):
    predictions = predictions_of(small_benchmark, request_, "x")
    for prediction in predictions:
        if prediction.task == "classification":
            assert prediction.chosen == prediction.options[-1]
            assert prediction.correct == (prediction.answer == prediction.options[-1])
            assert prediction.scores == [0.0, 1.0, 2.0, 3.0]
        else:
            assert (prediction.chosen, prediction.correct, prediction.scores, prediction.options) == (None,) * 4
    assert {True, False} == {p.correct for p in predictions if p.task == "classification"}


def test_texts_are_parsed_and_compared(small_benchmark, request_):
    pet = next(q.answer for q in small_benchmark.select(role="eval", modality="qa", task="classification"))
    predictions = predictions_of(small_benchmark, request_, f"The {pet}.")
    for prediction in predictions:
        if prediction.modality in ("vqa", "qa"):
            assert prediction.exact == (prediction.answer == pet)
            assert prediction.parsed == (pet if pet in (prediction.options or ()) else None)
            assert prediction.contained is not None
            assert (prediction.rouge_l is not None) == (prediction.task == "generation")
    assert any(p.exact for p in predictions)


def test_in_letter_mode_only_open_questions_have_an_exact_answer(small_benchmark, request_):
    predictions = predictions_of(small_benchmark, request_, "B", choice="letter")
    spoken = [p for p in predictions if p.generated is not None]
    assert {p.task for p in spoken} == {"classification", "generation", "cloze"}
    for prediction in spoken:
        if prediction.task == "classification":
            assert prediction.parsed == prediction.options[1]
            assert (prediction.exact, prediction.contained) == (None, None)
        else:
            assert (prediction.exact, prediction.contained) == (False, False)


def test_only_questions_that_stand_as_they_are_are_spoken(small_benchmark, request_):
    predictions = predictions_of(small_benchmark, request_, "x")
    assert {p.modality for p in predictions if p.generated is None} == {"qa_with_face", "qa_with_other_face"}
    silent = predictions_of(small_benchmark, request_, "x", generate=False)
    assert {p.generated for p in silent} == {None}
    assert [p.correct for p in silent] == [p.correct for p in predictions]


def test_rouge_l_is_f_with_stemming(small_benchmark, request_):
    sentence = next(q for q in small_benchmark.select(role="eval", task="generation"))
    one = Benchmark(small_benchmark.directory, "one", (replace(sentence, answer="She lives in Varna"),))
    request = ForgetRequest((sentence.entity_id,), (), ())
    (prediction,) = predictions_of(one, request, "she lived in")
    assert prediction.rouge_l == pytest.approx(2 * 1.0 * 0.75 / 1.75)


def test_splits_are_those_of_the_request_not_of_the_benchmark(small_benchmark):
    request = ForgetRequest.resolve(small_benchmark, ["P003"])
    splits = {p.entity_id: p.split for p in predictions_of(small_benchmark, request, "x", generate=False)}
    assert (splits["P001"], splits["P003"], splits["R001"]) == ("retain", "forget", "realworld")
