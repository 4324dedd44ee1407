"""`comparison.json` and `comparison.csv`: methods over seeds, against the retrained model and against each other.

Methods are ranked by their distance to the retrained model on the forget people's unseen photographs, among those that
cost the people who stay at most MATCHED_LOSS; the method that takes the retrained model's weights is no competitor.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from unsee.comparison.estimates import DISTANCE, DRAWS, GAPS, LOSS, Estimate, Estimates, attacks_of
from unsee.comparison.seeds import REFERENCES, Seed, settings
from unsee.report.checks import (
    FORGET_METRIC,
    FORGET_TRAINING_METRIC,
    REALWORLD_METRIC,
    RETAIN_METRIC,
    ROUNDING,
)
from unsee.report.intervals import difference_over_people
from unsee.report.summary import judged_headroom, versions

SCHEMA_VERSION = 1
MATCHED_LOSS = 0.02
OURS = "vkd"
GOLD = "retrain"
COSTS = ("seconds_per_epoch", "peak_memory_mb", "trainable_parameters")


def build_comparison(seeds: Sequence[Seed]) -> dict[str, Any]:
    """The comparison, JSON-serialisable; what could not be measured is None, with why beside it."""
    estimates = Estimates(seeds)
    methods = {name: _method(seeds, estimates, name) for name in seeds[0].methods}
    headroom = _headroom(seeds)
    return {
        "schema_version": SCHEMA_VERSION,
        "family": seeds[0].subject["family"],
        "shape": seeds[0].subject["shape"],
        "benchmarks": sorted({seed.subject["benchmark"] for seed in seeds}),
        "seeds": [seed.seed for seed in seeds],
        "methods": methods,
        "references": {name: _model(seeds, estimates, name) for name in REFERENCES},
        "paired": _paired(seeds, estimates),
        "headroom": headroom,
        **_ranking(methods, headroom),
        "versions": versions(),
    }


def csv_of(seeds: Sequence[Seed]) -> str:
    """One row per method, seed and metric; the value is empty where it was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "seed", "metric", "value"))
    for seed, models in zip(seeds, Estimates(seeds).values, strict=True):
        writer.writerows((name, seed.seed, *item) for name, values in models.items() for item in values.items())
    return text.getvalue()


def shown_metrics(comparison: dict[str, Any]) -> dict[str, float]:
    """The two numbers of each method that decide: `{name}/distance` and `{name}/retain_loss`."""
    shown = {}
    for name, method in comparison["methods"].items():
        shown[f"{name}/distance"] = method[DISTANCE][FORGET_METRIC]
        shown[f"{name}/retain_loss"] = method[LOSS].get(RETAIN_METRIC)
    return {name: estimate["mean"] for name, estimate in shown.items() if estimate}


def by_distance(methods: dict[str, Any]) -> list[str]:
    """Names from the nearest to the retrained model to the farthest; those without a distance last."""

    def order(name: str) -> tuple[float, str]:
        distance = methods[name][DISTANCE][FORGET_METRIC]
        return (distance["mean"] if distance else float("inf"), name)

    return sorted(methods, key=order)


def _method(seeds: Sequence[Seed], estimates: Estimates, name: str) -> dict[str, Any]:
    lost = estimates.mean(name, f"{LOSS}/{RETAIN_METRIC}")
    return {
        **_model(seeds, estimates, name),
        **{cost: _told(estimates.mean(name, cost)) for cost in COSTS},
        "told": {fact: _told(estimates.mean(name, fact)) for fact in seeds[0].methods[name]["told"]},
        "matched": lost is not None and lost.mean <= MATCHED_LOSS + ROUNDING,
        "settings": settings(seeds[0].methods[name]),
    }


def _model(seeds: Sequence[Seed], estimates: Estimates, name: str) -> dict[str, Any]:
    keys = estimates.values[0][name]
    metrics = seeds[0].models[name]["metrics"]

    def derived(kind: str) -> dict[str, Any]:
        found = [key for key in keys if key.startswith(f"{kind}/")]
        return {key.removeprefix(f"{kind}/"): _told(estimates.mean(name, key)) for key in found}

    means = {metric: _told(estimates.mean(name, metric)) for metric in metrics}
    reasons = {metric: reason for seed in seeds for metric, reason in seed.models[name]["not_measured"].items()}
    return {
        "metrics": means,
        "not_measured": {metric: reasons.get(metric) for metric, mean in means.items() if mean is None},
        DISTANCE: dict.fromkeys((FORGET_METRIC, FORGET_TRAINING_METRIC)) | derived(DISTANCE),
        LOSS: derived(LOSS),
        "relearning": _relearning(seeds, estimates, name),
    }


def _relearning(seeds: Sequence[Seed], estimates: Estimates, name: str) -> dict[str, Any]:
    """{sampling: {percent: gaps, with the `reason` of those that are None, and the mean curve}}."""
    found: dict[str, dict[str, Any]] = {}
    for budget in attacks_of(seeds[0], name):
        _, sampling, percent = budget.split("/")
        entries = [attacks_of(seed, name)[budget] for seed in seeds]
        gaps = {gap: _told(estimates.mean(name, f"{budget}/{gap}")) for gap in GAPS}
        reason = next((entry["reason"] for entry in entries if entry["reason"]), "the attack used every question")
        found.setdefault(sampling, {})[percent] = {
            **gaps,
            "reason": reason if None in gaps.values() else None,
            "curve": _mean_curve([entry["curve"] for entry in entries if entry["curve"]]),
        }
    return found


def _mean_curve(curves: Sequence[Sequence[dict[str, float | None]]]) -> list[dict[str, float | None]]:
    """Mean over seeds of every number of every epoch."""
    return [{key: _mean([point[key] for point in points]) for key in points[0]} for points in zip(*curves, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None


def _paired(seeds: Sequence[Seed], estimates: Estimates) -> dict[str, dict[str, Any]]:
    """Our distance, what others lose, and gap beyond the control, minus every other method's: below zero ours is
    better."""
    if OURS not in seeds[0].methods:
        return {}
    compared = {metric: f"{DISTANCE}/{metric}" for metric in (FORGET_METRIC, FORGET_TRAINING_METRIC)}
    losses = (f"{LOSS}/{metric}" for metric in (RETAIN_METRIC, REALWORLD_METRIC))
    compared |= {key: key for key in losses if key in estimates.values[0][OURS]}
    compared |= {budget: f"{budget}/gap_beyond_control" for budget in attacks_of(seeds[0], OURS)}
    others = [name for name in seeds[0].methods if name != OURS]
    return {
        title: {name: _told(estimates.difference(OURS, name, key), "difference") for name in others}
        for title, key in compared.items()
    }


def _told(estimate: Estimate | None, value: str = "mean") -> dict[str, Any] | None:
    if estimate is None:
        return None
    interval = {"low": estimate.low, "high": estimate.high}
    return {value: estimate.mean, **interval, "n": estimate.n, "n_seeds": estimate.n_seeds}


def _headroom(seeds: Sequence[Seed]) -> dict[str, Any]:
    """Whether there was enough to forget in every seed, and how much by seed."""
    by_seed = {str(seed.seed): _headroom_of(seed) for seed in seeds}
    return {"enough": all(found["enough"] for found in by_seed.values()), "by_seed": by_seed}


def _headroom_of(seed: Seed) -> dict[str, Any]:
    people = seed.per_person.get(FORGET_METRIC)
    if people is None:
        reason = "no unseen photograph of the forget people was asked about, so what there was to forget is not known"
        return {"value": None, "low": None, "high": None, "enough": False, "reason": reason}
    vanilla, retrained = (people[:, list(seed.models).index(name)] for name in REFERENCES)
    sums, counts = vanilla[:, 0] - retrained[:, 0], vanilla[:, 1]
    return judged_headroom(difference_over_people(sums, counts, DRAWS, seed=0))


def _ranking(methods: dict[str, Any], headroom: dict[str, Any]) -> dict[str, Any]:
    """`ranking`: methods that keep the people who stay, nearest first, or None for a reason; `unmatched`: others."""
    competing = [name for name in by_distance(methods) if methods[name]["settings"]["method"] != GOLD]
    unmatched = [name for name in competing if not methods[name]["matched"]]
    reason = _unrankable({name: methods[name] for name in competing}, headroom)
    ranking = None if reason else [name for name in competing if name not in unmatched]
    return {"ranking": ranking, "ranking_reason": reason, "unmatched": unmatched}


def _unrankable(methods: dict[str, Any], headroom: dict[str, Any]) -> str | None:
    for seed, found in headroom["by_seed"].items():
        if not found["enough"]:
            return f"seed {seed}: {found['reason']}"
    for name, method in methods.items():
        if method[DISTANCE][FORGET_METRIC] is None:
            return f"{name}: its distance to the retrained model was not measured"
        if method[LOSS].get(RETAIN_METRIC) is None:
            return f"{name}: what the people who stay lost was not measured"
    return None
