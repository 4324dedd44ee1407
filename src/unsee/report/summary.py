"""`summary.json`: the numbers of a run that other programs read."""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Any

import unsee
from unsee.image import image_reference
from unsee.report.checks import gap_and_control
from unsee.report.inputs import RunInputs
from unsee.report.intervals import Difference, accuracy_difference
from unsee.report.wording import points

SCHEMA_VERSION = 1
HEADROOM = 0.1
SIX_COLUMNS = tuple(
    f"{split}/{modality}/accuracy" for split in ("forget", "retain", "realworld") for modality in ("vqa", "qa")
)
HELDOUT_COLUMNS = tuple(f"{split}/vqa/heldout_accuracy" for split in ("forget", "retain", "realworld"))
PACKAGES = {"torch": "torch", "transformers": "transformers", "kfp": "kfp", "mlflow": "mlflow-skinny"}


def build_summary(run: RunInputs) -> dict[str, Any]:
    """The summary of a run, JSON-serialisable; what could not be measured is None, with why in `not_measured`."""
    evaluations = run.evaluations.items()
    return {
        "schema_version": SCHEMA_VERSION,
        "method": run.settings["unlearn"]["method"],
        "seed": run.settings["unlearn"]["seed"],
        "benchmark": {"name": run.benchmark.name, "digest": run.benchmark_digest},
        "forget": list(run.request.forget),
        "models": {model: {name: m.value for name, m in e.metrics.items()} for model, e in evaluations},
        "not_measured": {
            model: {name: m.reason for name, m in e.metrics.items() if m.value is None} for model, e in evaluations
        },
        "distance_to_retrained": distance_to_retrained(run),
        "headroom": headroom(run),
        "relearning": relearning_gaps(run.relearning),
        "timing": run.timing,
        "versions": versions(),
    }


def distance_to_retrained(run: RunInputs) -> dict[str, float | None]:
    """|unlearned - retrained| of every forget metric; None where either is not measured."""
    unlearned = run.evaluations["unlearned"].metrics
    reference = run.evaluations["retrained"].metrics if "retrained" in run.evaluations else {}
    distances: dict[str, float | None] = {}
    for name in unlearned:
        if name.startswith("forget/"):
            other = reference.get(name)
            distances[name] = _distance(unlearned[name].value, other.value if other else None)
    return distances


def headroom(run: RunInputs) -> dict[str, Any]:
    """What vanilla knows of the forget people's unseen photographs beyond the retrained model."""
    if "retrained" not in run.evaluations:
        missing = "no retrained reference was built, so what there was to forget is not known"
        return {"value": None, "low": None, "high": None, "enough": False, "reason": missing}
    difference = accuracy_difference(
        run.evaluations["vanilla"].predictions,
        run.evaluations["retrained"].predictions,
        split="forget",
        modality="vqa",
        view="heldout",
        draws=run.settings["evaluation"]["bootstrap"],
        seed=run.settings["evaluation"]["seed"],
    )
    return judged_headroom(difference)


def judged_headroom(difference: Difference) -> dict[str, Any]:
    """Vanilla's accuracy on the forget people's unseen photographs minus the retrained model's, and whether it will do.

    `enough` says that the low end of the paired 95 % interval is above 0.1: otherwise there is nothing to forget, and
    no method can be judged by forgetting it.
    """
    surely = difference.value if difference.low is None else difference.low
    enough = surely is not None and surely > HEADROOM
    reason = difference.reason if enough or surely is None else _too_little(surely)
    return {**asdict(difference), "enough": enough, "reason": reason}


def _too_little(surely: float) -> str:
    return (
        "there was little to forget: on their unseen photographs, vanilla's lead over the retrained model may be as "
        f"small as {points(surely)}, and more than {points(HEADROOM)} are needed"
    )


def relearning_gaps(models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Per sampling and percentage: the attack on the unlearned model, and its gaps on the two controls.

    `gap_beyond_control` is what the attack wins back beyond what the same data teach the retrained model, on
    questions the attack did not use where those exist.
    """
    return {
        sampling: {percent: _relearning_entry(models, sampling, percent) for percent in percents}
        for sampling, percents in models.get("unlearned", {}).items()
    }


def versions() -> dict[str, str]:
    """Versions of unsee, Python and the packages that decide about numbers, and the image they are in, if any."""
    installed = {name: _version(distribution) for name, distribution in PACKAGES.items()}
    image = image_reference()
    found = {"unsee": unsee.__version__, "python": platform.python_version(), **installed}
    return found if image is None else {**found, "image": image}


def headline_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The few numbers to show when a run ends."""
    unlearned = summary["models"]["unlearned"]
    chosen = {name: unlearned.get(name) for name in (*SIX_COLUMNS, *HELDOUT_COLUMNS)}
    chosen["distance_to_retrained/forget/vqa/heldout_accuracy"] = summary["distance_to_retrained"].get(
        HELDOUT_COLUMNS[0]
    )
    chosen["headroom"] = summary["headroom"]["value"]
    chosen |= {f"{name}/gap": gaps["gap"] for name, gaps in _attacks(summary)}
    return {name: value for name, value in chosen.items() if value is not None}


def final_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """Everything pipeline runs are compared by, flat: the unlearned model's metrics, distances, headroom and gaps."""
    flat: dict[str, float | None] = dict(summary["models"]["unlearned"])
    flat |= {f"distance_to_retrained/{name}": value for name, value in summary["distance_to_retrained"].items()}
    flat["headroom"] = summary["headroom"]["value"]
    for name, entry in _attacks(summary):
        flat |= {f"{name}/{key}": value for key, value in entry.items() if key.startswith("gap")}
    return {name: value for name, value in flat.items() if value is not None}


def _attacks(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for sampling, percents in summary["relearning"].items():
        for percent, entry in percents.items():
            yield f"relearning/{sampling}/{percent}", entry


def _relearning_entry(models: dict[str, Any], sampling: str, percent: str) -> dict[str, Any]:
    unlearned = models["unlearned"][sampling][percent]
    control = models.get("retrained", {}).get(sampling, {}).get(percent, {})
    vanilla = models.get("vanilla", {}).get(sampling, {}).get(percent, {})
    entry = {
        **unlearned,
        "gap_control": control.get("gap"),
        "gap_unseen_control": control.get("gap_unseen"),
        "gap_vanilla": vanilla.get("gap"),
    }
    return {**entry, "gap_beyond_control": _subtract(*(gap_and_control(entry) or (None, None)))}


def _subtract(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _distance(first: float | None, second: float | None) -> float | None:
    difference = _subtract(first, second)
    return None if difference is None else abs(difference)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
