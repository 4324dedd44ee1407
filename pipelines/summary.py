"""The last thing `unsee run` prints: what was forgotten, what it cost, where everything is."""

import json
from collections.abc import Mapping

from unsee_pipelines.local import Outcome

SPLITS = {"forget": "forget", "retain": "retain", "realworld": "real-world"}
METRICS = {"VQA": "vqa/accuracy", "VQA, held-out portraits": "vqa/heldout_accuracy", "QA": "qa/accuracy"}
MODELS = ("vanilla", "retrained", "unlearned")


def final_table(outcome: Outcome) -> str:
    """Accuracy of the three models, the seconds of each step, and where report and MLflow run are."""
    models = json.loads((outcome.out / "summary.json").read_text())["models"]
    parts = [_accuracies(models), _times(outcome), _places(outcome)]
    return "\n\n".join("\n".join(part) for part in parts)


def _accuracies(models: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """The paper's six columns as rows, with the accuracy on held-out portraits below each VQA row."""
    lines = [f"{'accuracy in %':36}" + "".join(f"{model:>11}" for model in MODELS)]
    for split, title in SPLITS.items():
        for metric, name in METRICS.items():
            cells = "".join(f"{_percent(models[model].get(f'{split}/{name}')):>11}" for model in MODELS)
            lines.append(f"{f'{title} {metric}':36}{cells}")
    return lines


def _times(outcome: Outcome) -> list[str]:
    steps = {step: "cached" if step in outcome.cached else f"{s:.1f} s" for step, s in outcome.seconds.items()}
    return _pairs({**steps, "all steps": f"{sum(outcome.seconds.values()):.1f} s"})


def _places(outcome: Outcome) -> list[str]:
    files = {"report": "report.html", "summary": "summary.json", "log": "log.txt"}
    places = {name: str(outcome.out / file) for name, file in files.items()}
    registered = json.loads((outcome.out / "registration.json").read_text())["models"]
    models = {f"{name} model": f"{model['source']} ({model['uri']})" for name, model in registered.items()}
    return _pairs({**places, **models, "MLflow run": f"{outcome.mlflow_run} in {outcome.mlflow_uri}"})


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _pairs(values: Mapping[str, str]) -> list[str]:
    width = max(len(name) for name in values)
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]
