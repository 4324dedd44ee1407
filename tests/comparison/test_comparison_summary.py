"""comparison.json: distances, pairs, ranking and what cannot be said."""

from pathlib import Path
from typing import Any

import pytest
from made_seeds import NO_ATTACK, RETRAINED, Compared, Outcome, compared, make_seed

from unsee.report.checks import FORGET_METRIC, FORGET_TRAINING_METRIC, REALWORLD_METRIC, RETAIN_METRIC

DISTANCE = "distance_to_retrained"


def mean(estimate: dict[str, Any]) -> Any:
    return pytest.approx(estimate["mean"])


def test_means_are_over_seeds(two_seeds: Compared) -> None:
    vkd = two_seeds.comparison["methods"]["vkd"]
    assert two_seeds.comparison["seeds"] == [0, 1]
    assert mean(vkd["metrics"][FORGET_METRIC]) == (0.25 + 0.2) / 2
    assert mean(vkd["seconds_per_epoch"]) == (3 + 5) / 2
    assert mean(vkd["losses"][RETAIN_METRIC]) == (0 + 0.02) / 2
    assert mean(two_seeds.comparison["references"]["retrained"]["metrics"][FORGET_METRIC]) == 0.25


def test_below_the_retrained_model_counts_as_distance(two_seeds: Compared) -> None:
    """vkd at 0.25 and 0.2, ga at 0 and 0.05: retrained is at 0.25 in both seeds."""
    methods = two_seeds.comparison["methods"]
    for metric in (FORGET_METRIC, FORGET_TRAINING_METRIC):
        assert mean(methods["vkd"][DISTANCE][metric]) == (0 + 0.05) / 2
        assert mean(methods["ga"][DISTANCE][metric]) == (0.25 + 0.2) / 2
        assert mean(methods["npo"][DISTANCE][metric]) == (0.15 + 0.2) / 2
    assert mean(methods["vkd"][DISTANCE]["forget/qa/accuracy"]) == 0


def test_pairs_are_ours_minus_the_other(two_seeds: Compared) -> None:
    paired = two_seeds.comparison["paired"]
    assert set(paired[FORGET_METRIC]) == {"ga", "npo", "f_vkd", "retrain"}
    assert paired[FORGET_METRIC]["ga"]["difference"] == pytest.approx(((0 - 0.25) + (0.05 - 0.2)) / 2)
    npo = paired[FORGET_METRIC]["npo"]
    assert npo["difference"] == pytest.approx(((0 - 0.15) + (0.05 - 0.2)) / 2)
    assert npo["low"] <= npo["difference"] <= npo["high"] < 0
    assert (npo["n"], npo["n_seeds"]) == (8, 2)
    lost = paired[f"losses/{REALWORLD_METRIC}"]["npo"]
    assert lost["difference"] == pytest.approx(-0.2)
    assert (lost["n"], lost["n_seeds"]) == (2, 2)


def test_relearning_is_compared_beyond_the_control(two_seeds: Compared) -> None:
    """On unused questions half of the gap comes back: vkd's 0.2 and 0.25 and the retrained model's 0.2."""
    attack = two_seeds.comparison["methods"]["vkd"]["relearning"]["image"]["20"]
    assert mean(attack["gap"]) == (0.2 + 0.25) / 2
    assert mean(attack["gap_unseen"]) == (0.1 + 0.125) / 2
    assert mean(attack["gap_control"]) == 0.2
    assert mean(attack["gap_beyond_control"]) == (0 + 0.025) / 2
    assert [point["forget/vqa/accuracy"] for point in attack["curve"]] == pytest.approx([0.225, 0.3375, 0.45])
    for budget in ("relearning/image/20", "relearning/person/20"):
        ga = two_seeds.comparison["paired"][budget]["ga"]
        assert ga["difference"] == pytest.approx(((0 - 0.2) + (0.025 - 0.225)) / 2)
        assert ga["n"] == ga["n_seeds"] == 2


def test_ranking_is_by_distance_among_those_that_keep_the_others(two_seeds: Compared) -> None:
    """ga forgets, and costs everyone else 46 points. The retrained model itself is no competitor."""
    comparison = two_seeds.comparison
    assert comparison["ranking"] == ["vkd", "f_vkd", "npo"]
    assert comparison["unmatched"] == ["ga"]
    assert comparison["ranking_reason"] is None
    assert not comparison["methods"]["ga"]["matched"]
    assert comparison["headline"] == "Closest to a model that never saw them: vkd, 2.5 points away"


def test_matched_up_to_two_points_and_no_more(tmp_path: Path) -> None:
    """The mean over seeds counts: 0 and 4 points lost are 2."""
    outcomes = [
        {"vkd": Outcome(0.25, retain=0.96), "npo": Outcome(0.3)},
        {"vkd": Outcome(0.25, retain=0.92), "npo": Outcome(0.3, retain=0.9)},
    ]
    seeds = [make_seed(tmp_path, seed, methods) for seed, methods in enumerate(outcomes)]
    comparison = compared(tmp_path, seeds).comparison
    assert (comparison["ranking"], comparison["unmatched"]) == (["vkd"], ["npo"])


def test_nobody_is_ranked_where_there_was_little_to_forget(nothing_to_forget: Compared) -> None:
    comparison = nothing_to_forget.comparison
    assert comparison["ranking"] is None
    assert comparison["ranking_reason"].startswith("seed 1: there was little to forget")
    assert comparison["headroom"]["enough"] is False
    assert [comparison["headroom"]["by_seed"][seed]["enough"] for seed in ("0", "1")] == [True, False]
    assert comparison["headroom"]["by_seed"]["1"]["value"] == pytest.approx(0.05)
    assert "cannot be said" in comparison["headline"]


def test_no_method_may_be_matched(tmp_path: Path) -> None:
    found = compared(tmp_path, [make_seed(tmp_path, 0, {"ga": Outcome(0.0, retain=0.4)})])
    assert found.comparison["ranking"] == []
    assert found.comparison["paired"] == {}
    assert "No method forgets without costing" in found.comparison["headline"]


def test_the_reference_alone_is_no_comparison(tmp_path: Path) -> None:
    found = compared(tmp_path, [make_seed(tmp_path, 0, {"retrain": RETRAINED})])
    assert found.comparison["headline"] == "There is no method to compare: retrain is the reference itself"


def test_one_seed_has_intervals_over_its_people(one_seed: Compared) -> None:
    vkd = one_seed.comparison["methods"]["vkd"]
    accuracy = vkd["metrics"][FORGET_METRIC]
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert (accuracy["n"], accuracy["n_seeds"]) == (4, 1)
    assert vkd["seconds_per_epoch"] == {"mean": 3.0, "low": None, "high": None, "n": 1, "n_seeds": 1}
    assert one_seed.comparison["paired"]["relearning/image/20"]["npo"]["low"] is None


def test_one_person_has_no_interval(one_person: Compared) -> None:
    accuracy = one_person.comparison["methods"]["vkd"]["metrics"][FORGET_METRIC]
    assert accuracy == {"mean": pytest.approx(0.3), "low": None, "high": None, "n": 1, "n_seeds": 1}
    assert one_person.comparison["ranking"] == ["vkd", "npo"]


def test_what_is_not_measured_is_null_with_its_reason(one_person: Compared) -> None:
    vkd = one_person.comparison["methods"]["vkd"]
    assert vkd["metrics"]["realworld/vqa/accuracy"] is None
    assert vkd["not_measured"]["realworld/vqa/accuracy"] == "nobody in this request is in the realworld set"
    attack = vkd["relearning"]["person"]["20"]
    assert attack["gap"] is attack["gap_beyond_control"] is None
    assert (attack["reason"], attack["curve"]) == (NO_ATTACK, [])
    assert one_person.comparison["paired"]["relearning/person/20"]["npo"] is None


def test_retain_accuracy_that_was_not_measured_forbids_a_ranking(tmp_path: Path) -> None:
    people = {"forget": 4, "retain": 0, "realworld": 2}
    comparison = compared(tmp_path, [make_seed(tmp_path, 0, {"vkd": Outcome(0.25)}, people=people)]).comparison
    assert comparison["ranking"] is None
    assert comparison["ranking_reason"] == "vkd: what the people who stay lost was not measured"


def test_csv_has_a_row_per_method_seed_and_metric(two_seeds: Compared) -> None:
    header, *rows = two_seeds.csv
    assert header == ["method", "seed", "metric", "value"]
    assert len({tuple(row[:3]) for row in rows}) == len(rows)
    assert {row[0] for row in rows} == {"vanilla", "retrained", *two_seeds.comparison["methods"]}
    values = {tuple(row[:3]): row[3] for row in rows}
    assert float(values["vkd", "1", f"{DISTANCE}/{FORGET_METRIC}"]) == pytest.approx(0.05)
    assert float(values["ga", "0", "relearning/image/20/gap"]) == pytest.approx(0.6)
    assert values["vkd", "0", "forget/vqa/cloze"] == ""


def test_the_step_shows_distance_and_retain_loss(two_seeds: Compared) -> None:
    assert two_seeds.metrics["vkd/distance"] == pytest.approx(0.025)
    assert two_seeds.metrics["ga/retain_loss"] == pytest.approx(0.46)
    assert len(two_seeds.metrics) == 10
