"""`unsee costs`: every method sees as many portraits, questions and people by name an epoch, and what it costs."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from two_questions import two_questions

from unsee import cli
from unsee.bench import costs
from unsee.bench.costs import EPOCHS, Cost, cost_of
from unsee.bench.workloads import RECIPES, Recipe
from unsee.benchmark import embedded
from unsee.errors import TrainingFailure, UserError

FORGET, RETAIN, PEOPLE = 2, 4, 2
"""Portraits and people by name an epoch: two steps."""
QUESTIONS = 2


TINY = replace(
    RECIPES["embedded"],
    wording=two_questions,
    assignments=(
        "benchmark.forget=1",
        "benchmark.retain=1",
        "benchmark.train_views=2",
        "benchmark.heldout_views=1",
        "unlearn.batch_forget_images=1",
        "unlearn.batch_retain_images=2",
        "unlearn.batch_people=1",
        "unlearn.versions=2",
    ),
)
WITHOUT_RETAIN = ("ga", "npo", "vkd unlearn.answers=false")
WITH_RETAIN = ("ga_diff", "kl_min", "mmunlearner", "npo_retain", "vgid", "vkd", "vkd unlearn.blends=0", "f_mask")
OF_THE_VISION_PART = ("vkd", "vkd unlearn.blends=0", "vkd unlearn.answers=false", "f_mask")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("costs") / "benchmark"
    embedded.generate(TINY.settings().benchmark, directory)
    return directory


@pytest.fixture(scope="module")
def found(drawn: Path) -> dict[str, Cost]:
    return {method: cost_of(TINY, method, drawn) for method in (*WITHOUT_RETAIN, *WITH_RETAIN)}


@pytest.mark.parametrize("method", WITH_RETAIN)
def test_methods_with_a_retain_term_see_equal_images_and_questions(found: dict[str, Cost], method: str):
    cost = found[method]
    assert cost.images_per_epoch == FORGET + RETAIN
    assert cost.questions_per_epoch == QUESTIONS * (FORGET + RETAIN)


@pytest.mark.parametrize("method", WITHOUT_RETAIN)
def test_methods_without_one_ask_about_the_forget_portraits(found: dict[str, Cost], method: str):
    cost = found[method]
    assert (cost.images_per_epoch, cost.questions_per_epoch) == (FORGET, QUESTIONS * FORGET)
    assert cost.text_rows_per_epoch == 0


@pytest.mark.parametrize("method", WITH_RETAIN)
def test_people_by_name_are_asked_about_where_that_has_a_gradient(found: dict[str, Cost], method: str):
    sets = 0 if method in OF_THE_VISION_PART else 2 if method == "mmunlearner" else 1
    assert found[method].text_rows_per_epoch == sets * PEOPLE


def test_blends_are_as_many_per_retain_portrait_as_in_the_preset(found: dict[str, Cost]):
    blending = {method: cost.blends_per_epoch for method, cost in found.items() if cost.blends_per_epoch}
    assert blending == dict.fromkeys(("vkd", "vkd unlearn.answers=false"), 3 * RETAIN)


@pytest.mark.parametrize("method", [*WITHOUT_RETAIN, *WITH_RETAIN])
def test_every_figure_is_there(found: dict[str, Cost], method: str):
    cost = found[method]
    assert cost.reason is None
    assert len(cost.seconds_of_epochs) == EPOCHS - 2
    assert 0 < min(cost.seconds_of_epochs) <= cost.seconds_per_epoch <= max(cost.seconds_of_epochs)
    assert cost.seconds_to_prepare > 0
    assert cost.peak_memory_mb >= cost.loaded_memory_mb > 0
    assert cost.trainable_parameters > 0
    assert (cost.trainable_parameters < found["ga"].trainable_parameters) == (method in OF_THE_VISION_PART)


def test_a_method_that_trains_nothing_has_no_epochs_and_says_so(drawn: Path):
    cost = cost_of(TINY, "manu", drawn)
    assert cost.reason == "manu trains nothing: it has no epochs"
    assert (cost.seconds_per_epoch, cost.images_per_epoch, cost.trainable_parameters) == (None, None, 0)
    assert cost.seconds_to_prepare > 0


def test_the_figures_are_written_by_workload_and_method_and_shown_beside_the_papers(tmp_path: Path):
    report = costs.main(tmp_path / "costs.json", "vkd,retrain", {"tiny": TINY})
    assert json.loads((tmp_path / "costs.json").read_text()) == json.loads(json.dumps(report))
    assert list(report) == ["tiny"]
    assert list(report["tiny"]) == ["vkd", "retrain"]
    reason = "method retrain needs the retrained model, which this run does not build"
    assert report["tiny"]["retrain"] == asdict(Cost(reason=reason))
    _, ours, reference = costs.table(report).splitlines()
    assert ours.split()[0] == "vkd"
    assert ours.split()[3] == "1.00"
    assert ours.endswith("16.7 min, 47.7 GB")
    assert reference.endswith(reason)


def test_what_was_measured_is_kept_where_a_later_method_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def measured(_workload: str, _recipe: Recipe, method: str, _benchmark: Path) -> dict[str, Any]:
        if method == "ga":
            raise TrainingFailure("ga: the loss became nan")
        return asdict(Cost(reason="measured"))

    monkeypatch.setattr(costs, "_apart", measured)
    with pytest.raises(TrainingFailure):
        costs.main(tmp_path / "costs.json", "vkd,ga", {"tiny": TINY})
    kept = json.loads((tmp_path / "costs.json").read_text())
    assert {method: cost["reason"] for method, cost in kept["tiny"].items()} == {"vkd": "measured"}


@pytest.mark.parametrize(
    ("methods", "named"),
    [
        ("vkd,magic", "method 'magic' is unknown; choose one of"),
        ("ga unlearn.beta=1", "unlearn.beta = 1"),
        ("vkd unlearn.epochs=3", "unlearn.epochs is the same for all methods whose costs are compared"),
        ("vkd unlearn.batch_retain_images=48", "unlearn.batch_retain_images is the same for all methods"),
        ("vkd benchmark.shape=clear", "benchmark.shape is the same for all methods"),
        (" , ", "--methods ' , ' names no method"),
    ],
)
def test_impossible_methods_are_refused_before_anything_is_measured(methods, named, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["unsee", "costs", "--out", str(tmp_path / "costs.json"), "--methods", methods])
    with pytest.raises(SystemExit) as left:
        cli.main()
    _, err = capsys.readouterr()
    assert left.value.code == 2
    assert named in err
    assert not (tmp_path / "costs.json").exists()


def test_a_directory_to_write_to_is_refused_before_anything_is_measured(tmp_path: Path):
    with pytest.raises(UserError, match=r"is a directory; give a file"):
        costs.main(tmp_path, "retrain", {})


def test_few_blends_are_not_rounded_to_none():
    """None would be another loss: L_VKD on the retain portraits."""
    shown = {n: costs.settings_of(RECIPES["llava"], f"vkd unlearn.blends={n}").unlearn.blends for n in (0, 5, 72)}
    assert shown == {0: 0, 5: 1, 72: 6}


@pytest.mark.parametrize("workload", RECIPES)
def test_every_method_has_the_same_steps_on_the_workloads(workload: str):
    every = [costs.settings_of(RECIPES[workload], method).unlearn for method in (*WITHOUT_RETAIN, *WITH_RETAIN)]
    steps = {(s.batch_forget_images, s.batch_retain_images, s.batch_people, s.micro_batch_images) for s in every}
    assert steps == {(1, 2, 1, 1) if workload == "llava" else (12, 24, 12, 6)}
