"""What a search chose: for every method, by one rule, among the same number of candidates at seeds never reported."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from unsee.comparison.candidates import Candidate
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.summary import MATCHED_LOSS, SCHEMA_VERSION
from unsee.errors import UserError
from unsee.report.checks import FORGET_METRIC, REALWORLD_METRIC, RETAIN_METRIC
from unsee.report.wording import points

TUNING_SEEDS = 100
"""The first seed that is for tuning; those below are reported."""
RULE = (
    "closest to the retrained model on unseen photographs of the forget people, among candidates that cost the people "
    f"who stay at most {points(MATCHED_LOSS)}; where there is none, the candidate that costs them least"
)


def require_tuning_seeds(given: str, seeds: Sequence[int]) -> None:
    """Raises UserError for seeds whose figures are reported. given: the option or setting that names them."""
    for seed in seeds:
        if seed < TUNING_SEEDS:
            raise UserError(
                f"{given} names {seed}, but figures are reported at seeds below {TUNING_SEEDS}: settings chosen there "
                f"would look better than they are; choose at seeds from {TUNING_SEEDS} on"
            )


def build_search(comparison: dict[str, Any]) -> dict[str, Any]:
    """Every candidate with its figures, by method, JSON-serialisable.

    Args:
        comparison: of all candidates (`summary.build_comparison`).

    Raises:
        UserError: seeds that are reported.
    """
    require_tuning_seeds("--seeds", comparison["seeds"])
    by_method: dict[str, dict[str, Any]] = {}
    for name, measured in comparison["methods"].items():
        by_method.setdefault(Candidate.parse(name).method, {})[name] = measured
    reason = comparison["ranking_reason"]
    return {
        "schema_version": SCHEMA_VERSION,
        "seeds": comparison["seeds"],
        "rule": RULE,
        "reason": reason,
        "methods": {method: _method(candidates, reason) for method, candidates in by_method.items()},
    }


def chosen_yaml(search: dict[str, Any]) -> str:
    """The chosen settings as they stand under `methods` of a preset: to be pasted there, or given by --config."""
    chosen = {
        method: Candidate.parse(found["chosen"]).settings
        for method, found in search["methods"].items()
        if found["chosen"] is not None
    }
    seeds = ", ".join(map(str, search["seeds"]))
    return f"# Chosen at seeds {seeds}: {search['rule']}.\n" + yaml.safe_dump({"methods": chosen}, sort_keys=False)


def _method(candidates: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    chosen = None if reason else _chosen(candidates)
    return {
        "budget": len(candidates),
        "chosen": chosen,
        "matched": chosen is not None and candidates[chosen]["matched"],
        "candidates": {name: _figures(name, measured) for name, measured in candidates.items()},
    }


def _chosen(candidates: Mapping[str, Any]) -> str:
    """The name of the candidate that RULE chooses; the first by name where several are alike."""
    matched = [name for name in sorted(candidates) if candidates[name]["matched"]]
    if matched:
        return min(matched, key=lambda name: candidates[name][DISTANCE][FORGET_METRIC]["mean"])
    return min(sorted(candidates), key=lambda name: candidates[name][LOSS][RETAIN_METRIC]["mean"])


def _figures(name: str, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": dict(Candidate.parse(name).own),
        "matched": measured["matched"],
        "distance": measured[DISTANCE][FORGET_METRIC],
        "forget_accuracy": measured["metrics"].get(FORGET_METRIC),
        "retain_loss": measured[LOSS].get(RETAIN_METRIC),
        "realworld_loss": measured[LOSS].get(REALWORLD_METRIC),
    }
