"""Metrics equal hand counts; intervals resample people; what cannot be measured says why."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from unsee.evaluation.metrics import PREDICTION_SCHEMA, Prediction, aggregate, compute_metrics, interval

NAMES = {
    f"{split}/{group}"
    for split in ("forget", "retain", "realworld")
    for group in [
        *(
            f"{modality}/{prefix}{measure}"
            for modality, prefix in (("vqa", ""), ("vqa", "heldout_"), ("qa", ""))
            for measure in ("accuracy", "parsed_accuracy", "exact", "rouge_l", "cloze", "cloze_contained")
        ),
        "qa_with_face/accuracy",
        "qa_with_face/other_face_accuracy",
    ]
}


def prediction(entity="P1", split="forget", modality="vqa", view="train", task="classification", **values):
    fields = {
        "question_id": "q", "entity_id": entity, "entity_name": entity, "split": split, "modality": modality,
        "view": view if modality == "vqa" else None, "task": task, "image": None, "prompt": "?", "options": None,
        "scores": None, "answer": "cat", "chosen": None, "generated": None, "parsed": None, "correct": None,
        "exact": None, "contained": None, "rouge_l": None,
    }  # fmt: skip
    return Prediction(**{**fields, **values})


ROWS = [
    prediction(correct=True, generated="cat", parsed="cat", exact=True),
    prediction(correct=False, generated="An apple", parsed=None, exact=False),
    prediction("P2", correct=True, generated="dog", parsed="dog", exact=False),
    prediction(view="heldout", correct=False, generated="cat", parsed="cat", exact=True),
    prediction(modality="qa", correct=True, generated="cat", parsed="cat", exact=True),
    prediction(task="generation", generated="x", exact=False, rouge_l=0.25),
    prediction("P2", task="generation", generated="x", exact=False, rouge_l=0.75),
    prediction(task="cloze", generated="a cat", exact=True, contained=True),
    prediction(task="cloze", generated="my cat", exact=False, contained=True),
    prediction("P3", "retain", modality="qa_with_face", correct=True),
    prediction("P3", "retain", modality="qa_with_other_face", correct=False),
    prediction("P3", "retain", modality="qa_with_other_face", correct=True),
]


def test_values_equal_hand_counts():
    metrics = compute_metrics(ROWS, bootstrap=50, seed=0)
    values = {name: metric.value for name, metric in metrics.items() if metric.value is not None}
    assert values == {
        "forget/vqa/accuracy": 2 / 3,
        "forget/vqa/parsed_accuracy": 1 / 3,
        "forget/vqa/exact": 1 / 3,
        "forget/vqa/rouge_l": 0.5,
        "forget/vqa/cloze": 0.5,
        "forget/vqa/cloze_contained": 1.0,
        "forget/vqa/heldout_accuracy": 0.0,
        "forget/vqa/heldout_parsed_accuracy": 1.0,
        "forget/vqa/heldout_exact": 1.0,
        "forget/qa/accuracy": 1.0,
        "forget/qa/parsed_accuracy": 1.0,
        "forget/qa/exact": 1.0,
        "retain/qa_with_face/accuracy": 1.0,
        "retain/qa_with_face/other_face_accuracy": 0.5,
    }
    assert (metrics["forget/vqa/accuracy"].n, metrics["forget/vqa/accuracy"].questions) == (2, 3)


def test_every_metric_is_named_for_every_split_and_says_why_it_is_missing():
    metrics = compute_metrics(ROWS, bootstrap=50, seed=0)
    assert set(metrics) == NAMES
    assert metrics["realworld/vqa/accuracy"].reason == "nobody in this request is in the realworld set"
    assert metrics["forget/qa/cloze"].reason == "no such question was asked"
    for metric in metrics.values():
        missing = metric.value is None
        assert (metric.reason is not None, metric.n == 0, metric.questions == 0) == (missing,) * 3
        assert (metric.low is None, metric.high is None) == (metric.n < 2,) * 2


def test_without_generation_only_likelihoods_are_measured():
    metrics = compute_metrics([prediction(correct=True)], bootstrap=50, seed=0)
    assert metrics["forget/vqa/accuracy"].value == 1.0
    assert metrics["forget/vqa/parsed_accuracy"].value is None
    for name in ("parsed_accuracy", "exact"):
        reason = "free answers were not generated (evaluation.generate is false)"
        assert metrics[f"forget/vqa/{name}"].reason == reason
    assert metrics["forget/vqa/cloze"].reason == "no such question was asked"
    assert metrics["retain/vqa/exact"].reason == "nobody in this request is in the retain set"


def test_a_letter_is_parsed_and_is_no_exact_answer():
    lettered = prediction(correct=True, generated="B", parsed="cat", exact=None)
    metrics = compute_metrics([lettered, prediction(task="cloze", generated="a cat", exact=True)], bootstrap=50, seed=0)
    assert metrics["forget/vqa/parsed_accuracy"].value == 1.0
    assert metrics["forget/vqa/cloze"].value == 1.0
    assert metrics["forget/vqa/exact"].value is None
    assert metrics["forget/vqa/exact"].reason == (
        "the model was asked for a letter, not for the answer itself (evaluation.choice is letter)"
    )


def answers(people, questions, rate, seed=0):
    """(person, right or wrong), each person with a rate of their own around `rate`."""
    rng = np.random.default_rng(seed)
    rates = np.clip(rng.normal(rate, 0.2, people), 0, 1)
    return [(f"P{p}", float(rng.random() < rates[p])) for p in range(people) for _ in range(questions)]


def test_the_interval_holds_the_value_and_is_the_same_for_the_same_seed():
    values = answers(20, 9, 0.6)
    metric = aggregate(values, 1000, 0, None)
    assert metric.low < metric.value < metric.high
    assert metric.value == pytest.approx(np.mean([v for _, v in values]))
    assert metric == aggregate(values, 1000, 0, None)
    assert metric != aggregate(values, 1000, 1, None)


def test_the_interval_widens_with_fewer_people_not_with_fewer_questions_of_the_same_answers():
    def width(values):
        metric = aggregate(values, 2000, 0, None)
        return metric.high - metric.low

    many, few = answers(80, 9, 0.6), answers(10, 9, 0.6)
    assert width(few) > 2 * width(many)
    doubled = [pair for pair in few for _ in range(2)]
    assert width(doubled) == pytest.approx(width(few))


def test_the_interval_covers_the_true_value_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        metric = aggregate(answers(30, 9, 0.5, seed), 300, seed, None)
        covered += metric.low <= 0.5 <= metric.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_bootstrap_is_the_percentile_bootstrap_over_people():
    sums, counts = np.array([3.0, 0.0, 2.0]), np.array([3, 1, 4])
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, 3, (400, 3))
    means = sorted(sum(sums[i] for i in row) / sum(counts[i] for i in row) for row in drawn)
    assert interval(sums, counts, 400, 5) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_one_person_has_a_value_and_no_interval_over_people():
    metric = aggregate([("P1", 1.0), ("P1", 0.0)], 100, 0, None)
    assert (metric.value, metric.low, metric.high, metric.n, metric.questions) == (0.5, None, None, 1, 2)


def test_predictions_fit_their_table():
    rows = [*ROWS, prediction(options=["cat", "dog"], scores=[-0.5, -1.5], chosen="cat", correct=True, image="a.png")]
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=PREDICTION_SCHEMA)
    assert [Prediction(**row) for row in table.to_pylist()] == rows
