"""Examine one model: predictions per question, and metrics with intervals."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unsee.benchmark.schema import ForgetRequest, load
from unsee.evaluation.asking import Examiner
from unsee.evaluation.examination import examination, examine
from unsee.evaluation.metrics import PREDICTION_SCHEMA, compute_metrics
from unsee.launching import in_processes
from unsee.mllm.rows import ImageBank
from unsee.parallel import main_goes_on
from unsee.sections import EvaluationSettings
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker


@in_processes
def run(
    settings: EvaluationSettings,
    benchmark: Path,
    forget: Sequence[str],
    name: str,
    model: Path,
    base: Path | None,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Write `metrics.json` and `predictions.parquet` to `out`. Returns every metric that could be measured.

    Args:
        name: vanilla, retrained or unlearned. base: the vanilla model's directory if `model` is a delta.

    Raises:
        UserError: an incomplete or damaged input.
        TrainingFailure: the model's scores are no numbers.
    """
    data = load(benchmark)
    request = ForgetRequest.resolve(data, forget)
    mllm = open_model(model, base, settings.compute)
    bank = ImageBank(mllm, data)
    examiner = Examiner(mllm, bank.pixels, settings.batch_images, settings.choice, bank.frame)
    digest = artifact.read(model, "model", verify=False).digest
    subject = {"family": mllm.model.config.model_type, "shape": data.shape, "benchmark": data.name}
    facts = {"model": name, "model_digest": digest, "settings": settings.model_dump(), "subject": subject}
    facts["compute"] = mllm.compute.facts
    with artifact.create(out, "evaluation", facts):
        predictions = examine(examiner, examination(data, request), request, generate=settings.generate)
        main_goes_on()
        metrics = compute_metrics(predictions, settings.bootstrap, settings.seed)
        table = pa.Table.from_pylist([asdict(p) for p in predictions], schema=PREDICTION_SCHEMA)
        pq.write_table(table, out / "predictions.parquet")
        write_json(out / "metrics.json", {"model": name, "metrics": {k: asdict(m) for k, m in metrics.items()}})
    measured = {k: m.value for k, m in metrics.items() if m.value is not None}
    tracker.log_params({"model": name, **settings.model_dump()})
    tracker.log_metrics(measured)
    tracker.log_artifact(out / "metrics.json")
    tracker.log_artifact(out / "predictions.parquet")
    return measured
