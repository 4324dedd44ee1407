"""The last thing `unsee run` prints: the verdict, what was forgotten, what it cost, where everything is."""

import json
from collections.abc import Mapping
from typing import Any

from unsee.comparison import PAGES
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.summary import by_distance
from unsee.report.checks import FORGET_METRIC, RETAIN_METRIC, SAMPLED, attack_reason, worst_attack
from unsee_pipelines.local import Outcome

SPLITS = {"forget": "forget", "retain": "retain", "realworld": "real-world"}
METRICS = {"VQA": "vqa/accuracy", "VQA, held-out portraits": "vqa/heldout_accuracy", "QA": "qa/accuracy"}
MODELS = ("vanilla", "retrained", "unlearned")
COMPARISON_FILES = {
    "chosen": "chosen.yaml",
    "comparison": "comparison.json",
    "table": "comparison.csv",
    "log": "log.txt",
}


def final_table(outcome: Outcome) -> str:
    """The headline, accuracy of the three models, the worst relearning attack, the seconds of each step, and places."""
    summary = json.loads((outcome.out / "summary.json").read_text())
    figures = [*_accuracies(summary["models"]), _relearning(summary)]
    parts = [[summary["verdict"]["headline"]], figures, _times(outcome, summary["timing"]), _places(outcome)]
    return "\n\n".join("\n".join(part) for part in parts)


def comparison_table(outcome: Outcome) -> str:
    """Methods by their distance to the retrained model, what they cost, the seconds of each step, and places."""
    found = json.loads((outcome.out / "comparison.json").read_text())
    titles = f"{'distance':>10}{'retain loss':>13}{'gap beyond control':>20}{'s/epoch':>9}"
    names = max(36, *(len(name) + 1 for name in found["methods"]))
    lines = [f"{'in points, mean over seeds':{names}}{titles}"]
    for name in by_distance(found["methods"]):
        cells = _cells(found["methods"][name])
        lines.append(f"{name:{names}}" + "".join(f"{cell:>{width}}" for cell, width in cells))
    times = {step: f"{seconds:.1f} s" for step, seconds in outcome.seconds.items()}
    files = [*(("report", page) for page in PAGES.values()), *COMPARISON_FILES.items()]
    places = {name: str(outcome.out / file) for name, file in files if (outcome.out / file).exists()}
    timing, where = {**times, "this run": _total(outcome)}, {**places, **_mlflow(outcome)}
    parts = [[found["headline"]], lines, _pairs(timing), _pairs(where)]
    return "\n\n".join("\n".join(part) for part in parts)


def _cells(method: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Cells and their widths: distance, loss on retain people's held-out portraits, relearning, seconds per epoch."""
    gaps = [
        entry["gap_beyond_control"]["mean"]
        for by_percent in method["relearning"].values()
        for entry in by_percent.values()
        if entry["gap_beyond_control"]
    ]
    seconds = _mean(method["seconds_per_epoch"])
    return [
        (_percent(_mean(method[DISTANCE][FORGET_METRIC])), 10),
        (_percent(_mean(method[LOSS].get(RETAIN_METRIC))), 13),
        (_percent(max(gaps, default=None)), 20),
        ("–" if seconds is None else f"{seconds:.1f}", 9),
    ]


def _mean(estimate: Mapping[str, Any] | None) -> float | None:
    return None if estimate is None else estimate["mean"]


def _accuracies(models: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """The paper's six columns as rows, with the accuracy on held-out portraits below each VQA row."""
    lines = [f"{'accuracy in %':36}" + "".join(f"{model:>11}" for model in MODELS)]
    for split, title in SPLITS.items():
        for metric, name in METRICS.items():
            cells = "".join(f"{_percent(models[model].get(f'{split}/{name}')):>11}" for model in MODELS)
            lines.append(f"{f'{title} {metric}':36}{cells}")
    return lines


def _relearning(summary: dict[str, Any]) -> str:
    """What the worst attack won back in points, below the unlearned model, beside what it taught the retrained one."""
    worst = worst_attack(summary)
    if worst is None:
        return f"{'relearning, points won back':36}not measured: {attack_reason(summary)}"
    attack = f"relearning, {worst.share} % of {SAMPLED[worst.sampling]}, points"
    return f"{attack:47}{100 * worst.control:+11.1f}{100 * worst.gap:+11.1f}"


def _times(outcome: Outcome, timing: Mapping[str, float]) -> list[str]:
    """As in the report: from a step's start until its result was complete, when it was made if it is cached."""
    steps = {
        step: f"{timing[step]:.1f} s" + (", cached" if step in outcome.cached else "")
        for step in outcome.seconds
        if step in timing
    }
    return _pairs({**steps, "this run": _total(outcome)})


def _total(outcome: Outcome) -> str:
    total = f"{sum(outcome.seconds.values()):.1f} s"
    return total if outcome.peak_memory is None else f"{total}, at most {outcome.peak_memory / 1e9:.1f} GB of memory"


def _places(outcome: Outcome) -> list[str]:
    files = {"report": "report.html", "summary": "summary.json", "log": "log.txt"}
    places = {name: str(outcome.out / file) for name, file in files.items()}
    registered = json.loads((outcome.out / "registration.json").read_text())["models"]
    models = {f"{name} model": f"{model['source']} ({model['uri']})" for name, model in registered.items()}
    return _pairs({**places, **models, **_mlflow(outcome)})


def _mlflow(outcome: Outcome) -> dict[str, str]:
    return {"MLflow run": f"{outcome.mlflow_run} in {outcome.mlflow_uri}"}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _pairs(values: Mapping[str, str]) -> list[str]:
    width = max(len(name) for name in values)
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]
