"""Everything a report is made from, read out of the artifacts of one run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from unsee.benchmark import schema
from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.evaluation.metrics import Metric, Prediction
from unsee.storage import artifact


@dataclass(frozen=True)
class Evaluation:
    """One model's metrics by name, and its predictions."""

    metrics: dict[str, Metric]
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class RunInputs:
    """One run: who was to be forgotten, how, and what was measured.

    `evaluations`, `histories` and `relearning` are keyed by vanilla, retrained (may be absent) and unlearned.
    `pruned`: of each place with removed neurons how many, {"place", "pruned", "of"}. `mask`: of each place how many
    weights were open to forgetting, {"place", "kept", "of"}, empty without a mask. `trained`: how many weights were
    trained. `timing` is step name -> seconds.
    """

    benchmark: Benchmark
    benchmark_digest: str
    request: ForgetRequest
    settings: dict[str, dict[str, Any]]
    evaluations: dict[str, Evaluation]
    relearning: dict[str, Any]
    pruned: list[dict[str, Any]]
    mask: list[dict[str, Any]]
    trained: int
    histories: dict[str, list[dict[str, float]]]
    timing: dict[str, float]


def read_inputs(
    *,
    benchmark: Path,
    forget: Sequence[str],
    settings: Mapping[str, str],
    statistics: Path,
    pruning: Path,
    models: Mapping[str, Path],
    evaluations: Mapping[str, Path],
    relearning: Mapping[str, Path],
) -> RunInputs:
    """Read and verify the artifacts of a run (of the models, large, only manifest, history, mask and pruned are read).

    `settings` maps section names to JSON; `models`, `evaluations` and `relearning` map vanilla, retrained and unlearned
    to directories.

    Raises:
        UserError: an incomplete or damaged artifact, or a forget request that does not fit the benchmark.
    """
    loaded = schema.load(benchmark)
    directories = {
        "prepare-benchmark": (benchmark, "benchmark"),
        "collect-statistics": (statistics, "statistics"),
        "prune": (pruning, "pruning"),
        **{_MODEL_STEPS[name]: (path, "model") for name, path in models.items()},
        **{f"evaluate-{name}": (path, "evaluation") for name, path in evaluations.items()},
        **{f"relearn-{name}": (path, "relearning") for name, path in relearning.items()},
    }
    manifests = {step: artifact.read(path, kind, verify=kind != "model") for step, (path, kind) in directories.items()}
    return RunInputs(
        benchmark=loaded,
        benchmark_digest=manifests["prepare-benchmark"].digest,
        request=ForgetRequest.resolve(loaded, forget),
        settings={section: json.loads(text) for section, text in settings.items()},
        evaluations={name: read_evaluation(path) for name, path in evaluations.items()},
        relearning={name: _ordered(_read_json(path / "relearning.json")) for name, path in relearning.items()},
        pruned=_read_json(models["unlearned"] / "pruned.json"),
        mask=(_read_json(models["unlearned"] / "mask.json") or {"places": []})["places"],
        trained=int(manifests["unlearn"].facts["cost"]["trainable_parameters"]),
        histories={name: _read_json(path / "history.json") for name, path in models.items()},
        timing={step: manifests[step].seconds for step in _STEP_ORDER if step in manifests},
    )


def read_evaluation(directory: Path) -> Evaluation:
    """Metrics and predictions of one evaluation artifact."""
    rows = pq.read_table(directory / "predictions.parquet").to_pylist()
    metrics = _read_json(directory / "metrics.json")["metrics"]
    return Evaluation(
        metrics={name: Metric(**metric) for name, metric in metrics.items()},
        predictions=tuple(Prediction(**row) for row in rows),
    )


def _ordered(samplings: dict[str, Any]) -> dict[str, Any]:
    """Samplings from person to image and percentages upwards, whatever order the file has them in."""
    return {
        sampling: dict(sorted(samplings[sampling].items(), key=lambda item: int(item[0])))
        for sampling in ("person", "image")
        if sampling in samplings
    }


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


_MODEL_STEPS = {"vanilla": "build-vanilla", "retrained": "build-retrained", "unlearned": "unlearn"}
_STEP_ORDER = (
    "prepare-benchmark",
    "build-vanilla",
    "build-retrained",
    "collect-statistics",
    "prune",
    "unlearn",
    "evaluate-vanilla",
    "evaluate-retrained",
    "evaluate-unlearned",
    "relearn-vanilla",
    "relearn-retrained",
    "relearn-unlearned",
)
