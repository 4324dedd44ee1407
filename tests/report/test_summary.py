"""summary.json holds the numbers of the run, and nothing that was not measured."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made_run import Accuracies, Reported, reported

from unsee.errors import UserError
from unsee.evaluation.metrics import Prediction
from unsee.report.inputs import read_evaluation
from unsee.report.intervals import accuracy_difference
from unsee.steps import report
from unsee.tracking import NoTracker


def rows(run: Reported, model: str) -> list[dict[str, Any]]:
    return pq.read_table(run.arguments["evaluations"][model] / "predictions.parquet").to_pylist()


def accuracy(predictions: list[dict[str, Any]], split: str, modality: str, view: str | None) -> float:
    found = [p["correct"] for p in predictions if (p["split"], p["modality"], p["view"]) == (split, modality, view)]
    return sum(found) / len(found)


def test_numbers_equal_recomputation_from_the_predictions(failure: Reported) -> None:
    asked = {"vqa/accuracy": ("vqa", "train"), "vqa/heldout_accuracy": ("vqa", "heldout"), "qa/accuracy": ("qa", None)}
    for model in ("vanilla", "retrained", "unlearned"):
        for split in ("forget", "retain", "realworld"):
            for metric, (modality, view) in asked.items():
                expected = accuracy(rows(failure, model), split, modality, view)
                assert failure.summary["models"][model][f"{split}/{metric}"] == pytest.approx(expected)


def test_distance_is_to_the_retrained_model_for_every_forget_metric(failure: Reported) -> None:
    models = failure.summary["models"]
    distances = failure.summary["distance_to_retrained"]
    assert set(distances) == {name for name in models["unlearned"] if name.startswith("forget/")}
    name = "forget/vqa/heldout_accuracy"
    assert distances[name] == pytest.approx(abs(models["unlearned"][name] - models["retrained"][name]))
    assert distances["forget/vqa/cloze"] is None


def test_relearning_carries_the_controls(success: Reported) -> None:
    entry = success.summary["relearning"]["image"]["20"]
    assert entry["gap"] == pytest.approx(0.13)
    assert entry["gap_control"] == pytest.approx(0.12)
    assert entry["gap_vanilla"] == pytest.approx(-0.02)
    assert entry["gap_beyond_control"] == pytest.approx(0.01)
    assert len(entry["curve"]) == 6
    assert success.summary["relearning"]["person"]["10"]["gap"] is None
    assert "10 people are needed" in success.summary["relearning"]["person"]["10"]["reason"]


def test_summary_says_what_was_run(success: Reported) -> None:
    summary = success.summary
    assert (summary["schema_version"], summary["method"], summary["seed"]) == (1, "vkd", 0)
    assert summary["forget"] == [f"person-{number:02d}" for number in range(6)]
    assert set(summary["versions"]) == {"unsee", "python", "torch", "transformers", "kfp", "mlflow"}
    assert next(iter(summary["timing"])) == "build-retrained"
    assert len(summary["timing"]) == 12


def test_headline_metrics_are_numbers_only(one_person: Reported) -> None:
    assert one_person.metrics["forget/vqa/accuracy"] == one_person.summary["models"]["unlearned"]["forget/vqa/accuracy"]
    assert "realworld/vqa/accuracy" not in one_person.metrics
    assert all(isinstance(value, float) for value in one_person.metrics.values())


def test_headroom_is_enough_when_vanilla_knew_them(success: Reported) -> None:
    headroom = success.summary["headroom"]
    expected = accuracy(rows(success, "vanilla"), "forget", "vqa", "heldout")
    expected -= accuracy(rows(success, "retrained"), "forget", "vqa", "heldout")
    assert headroom["value"] == pytest.approx(expected)
    assert 0.1 < headroom["low"] <= headroom["value"] <= headroom["high"]
    assert headroom["enough"] is True
    assert headroom["reason"] is None


def test_headroom_is_refused_when_vanilla_hardly_knew_them(tmp_path: Path) -> None:
    run = reported(tmp_path, vanilla=Accuracies(0.3, 0.9, 0.9))
    assert run.summary["headroom"]["enough"] is False
    assert "little to forget" in run.summary["headroom"]["reason"]
    assert run.summary["headroom"]["reason"].endswith("and more than 10 points are needed")
    assert "cannot say" in run.html


def test_headroom_without_a_reference_is_unknown(one_person: Reported) -> None:
    headroom = one_person.summary["headroom"]
    assert (headroom["value"], headroom["enough"]) == (None, False)
    assert "no retrained reference" in headroom["reason"]


def test_bootstrap_resamples_people_not_questions(success: Reported) -> None:
    """When each person is all right or all wrong, the interval is as wide as for one question each."""
    predictions = read_evaluation(success.arguments["evaluations"]["vanilla"]).predictions
    by_person: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        by_person[prediction.entity_id].append(prediction)
    first, second = [], []
    for number, answers in enumerate(by_person.values()):
        first += [replace(p, correct=number % 2 == 0) for p in answers]
        second += [replace(p, correct=False) for p in answers]
    asked: dict[str, Any] = {"split": "forget", "modality": "vqa", "view": "heldout", "draws": 2000, "seed": 0}
    difference = accuracy_difference(first, second, **asked)
    assert difference.value == pytest.approx(0.5)
    assert difference.low == pytest.approx(1 / 6, abs=0.01)
    assert difference.high == pytest.approx(5 / 6, abs=0.01)
    assert accuracy_difference([], second, **asked).reason is not None


def test_one_person_has_a_difference_but_no_interval(success: Reported) -> None:
    predictions = read_evaluation(success.arguments["evaluations"]["vanilla"]).predictions
    alone = [p for p in predictions if p.entity_id == "person-00"]
    difference = accuracy_difference(alone, alone, split="forget", modality="vqa", view=None, draws=10, seed=0)
    assert (difference.value, difference.low) == (0.0, None)
    assert "one person" in (difference.reason or "")


def test_damaged_evaluation_is_refused(tmp_path: Path) -> None:
    run = reported(tmp_path)
    metrics = run.arguments["evaluations"]["unlearned"] / "metrics.json"
    metrics.write_text(metrics.read_text().replace("0.2", "0.1"))
    with pytest.raises(UserError, match="changed or damaged"):
        report.run(**run.arguments, out=tmp_path / "again", tracker=NoTracker())
    assert not (tmp_path / "again").exists()
