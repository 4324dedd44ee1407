"""Step report: everything that was measured, as `summary.json` for programs and `report.html` for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unsee.report import page
from unsee.report.inputs import RunInputs, read_inputs
from unsee.report.summary import build_summary, final_metrics, headline_metrics
from unsee.report.verdict import judge
from unsee.storage import artifact
from unsee.storage.transfer import published
from unsee.tracking import Tracker
from unsee.tracking.mlflow import log_dataset, log_to_parent


def run(
    *,
    benchmark: Path,
    forget: Sequence[str],
    settings: Mapping[str, str],
    statistics: Path,
    pruning: Path,
    vanilla: Path,
    retrained: Path | None,
    unlearned: Path,
    evaluations: Mapping[str, Path],
    relearning: Mapping[str, Path],
    out: Path,
    tracker: Tracker,
    benchmark_uri: str = "",
) -> dict[str, float]:
    """Write the report artifact of a run; metrics, parameters and files also go to the MLflow parent.

    Args:
        benchmark: benchmark artifact.
        forget: ids that were to be forgotten; empty for the benchmark's own forget split.
        settings: section name -> JSON, as `resolve_settings` returns it.
        statistics: statistics artifact.
        pruning: pruning artifact.
        vanilla: model artifact before unlearning.
        retrained: model artifact of the reference, None when it was not built.
        unlearned: model artifact (a delta) after unlearning.
        evaluations: evaluation artifacts by model name: vanilla, unlearned and, when built, retrained.
        relearning: relearning artifacts, likewise.
        out: where the report artifact goes.
        tracker: receives the report on the step's own run.
        benchmark_uri: where KFP keeps the benchmark; on this machine, it is uploaded to UNSEE_STORE, if that is set.

    Returns:
        The headline metrics: the paper's six columns, unseen photographs, distance, headroom and relearning gaps.

    Raises:
        UserError: an incomplete or damaged artifact, or a store that cannot be used.
        Failed: a store that kept failing.
    """
    models = {"vanilla": vanilla, "retrained": retrained, "unlearned": unlearned}
    inputs = read_inputs(
        benchmark=benchmark,
        forget=forget,
        settings=settings,
        statistics=statistics,
        pruning=pruning,
        models={name: path for name, path in models.items() if path is not None},
        evaluations=evaluations,
        relearning=relearning,
    )
    summary = build_summary(inputs)
    verdict = judge(inputs, summary)
    with artifact.create(out, "report", {"method": summary["method"], "seed": summary["seed"]}):
        artifact.write_json(out / "summary.json", {**summary, "verdict": verdict.told()})
        artifact.write_bytes(out / "report.html", page.render(inputs, summary, verdict).encode())
    shown = headline_metrics(summary)
    tracker.log_metrics(shown)
    told = {"method": summary["method"], "seed": summary["seed"], "forget_people": len(inputs.request.forget)}
    parameters = {**told, "benchmark_digest": inputs.benchmark_digest, **inputs.settings}
    log_to_parent(final_metrics(summary), parameters, [out / "summary.json", out / "report.html"])
    _log_people(inputs, published(benchmark, "benchmark", benchmark_uri))
    for name, path in evaluations.items():
        log_to_parent({}, artifacts=[path / "predictions.parquet"], folder=f"evaluation/{name}")
    return shown


def _log_people(inputs: RunInputs, source: Path | str) -> None:
    """Note in MLflow which people of the benchmark at `source` were data for what."""
    uri = source.as_uri() if isinstance(source, Path) else source
    for context, people in {"forget": inputs.request.forget, "retain": inputs.request.retain}.items():
        log_dataset(inputs.benchmark.name, inputs.benchmark_digest, uri, context, {"people": len(people)})
