"""Fine-tune the base on everyone: the vanilla model, from which unlearning starts."""

from collections.abc import Collection
from pathlib import Path

from unsee.benchmark import schema
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.families import set_compute
from unsee.mllm.finetune import finetune
from unsee.sections import FinetuneSettings
from unsee.settings import EMBEDDED, SHIPPED_BASE
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker


def run(settings: FinetuneSettings, benchmark: Path, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write the vanilla model to `out`. Returns its last training losses."""
    return build(settings, benchmark, (), out, tracker)


def build(
    settings: FinetuneSettings, benchmark: Path, without_images_of: Collection[str], out: Path, tracker: Tracker
) -> dict[str, float]:
    """Fine-tune the base on a benchmark without some people's portraits; their facts by name stay.

    Raises:
        UserError: the base is no model folder, or the benchmark is incomplete or damaged.
    """
    data = schema.load(benchmark)
    base = _base_directory(settings.base)
    set_compute(settings.threads)
    mllm = checkpoint.load_full(base)
    digest = artifact.read(benchmark, "benchmark", verify=False).digest
    key = ("finetune", settings.model_dump(), digest, sorted(without_images_of), checkpoint.weights_digest(base))
    facts = {"base": settings.base, "settings": settings.model_dump(), "benchmark": digest}
    tracker.log_params({**settings.model_dump(), "people_without_images": len(without_images_of)})
    with artifact.create(out, "model", facts):
        curve, checkpoints = finetune(mllm, data, settings, key, tracker, without_images_of)
        checkpoint.save_full(mllm, out)
        write_json(out / "history.json", curve)
    for saved in checkpoints:
        saved.clear()
    return {name: value for name, value in curve[-1].items() if name != "step"}


def _base_directory(base: str) -> Path:
    directory = SHIPPED_BASE if base == EMBEDDED else Path(base)
    if not directory.is_dir():
        raise UserError(f"vanilla.base = {base!r}: {directory} is no directory; give {EMBEDDED!r} or a model folder")
    return directory
