"""Fine-tune the base on everyone: the vanilla model, from which unlearning starts."""

from collections.abc import Collection, Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from unsee.benchmark import schema
from unsee.compute import Compute
from unsee.errors import UserError
from unsee.launching import in_processes
from unsee.mllm import checkpoint, lora
from unsee.mllm.finetune import finetune
from unsee.parallel import main_goes_on
from unsee.sections import AnyFinetuning, LoraSettings
from unsee.settings import EMBEDDED, SHIPPED_BASE
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker

FILES = ["*.json", "*.jinja", "*.model", "*.safetensors", "*.txt"]
"""What is fetched of a base: nothing that is run."""


@in_processes
def run(settings: AnyFinetuning, benchmark: Path, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write the vanilla model to `out`. Returns its last training losses."""
    return build(settings, benchmark, (), out, tracker)


def build(
    settings: AnyFinetuning, benchmark: Path, without_images_of: Collection[str], out: Path, tracker: Tracker
) -> dict[str, float]:
    """Fine-tune the base on a benchmark without some people's portraits; their facts by name stay.

    Raises:
        UserError: the base is no model folder, or the benchmark is incomplete or damaged.
    """
    data = schema.load(benchmark)
    base = _base_directory(settings.base)
    compute = Compute.of(settings.compute)
    compute.start()
    mllm = checkpoint.load_full(base, compute)
    digest = artifact.read(benchmark, "benchmark", verify=False).digest
    weights = checkpoint.weights_digest(base)
    key = ("finetune", settings.model_dump(), compute.facts, digest, sorted(without_images_of), weights)
    made = {"settings": settings.model_dump(), "benchmark": digest, "compute": compute.facts}
    facts = {"base": settings.base, "base_sha256": weights, **made}
    tracker.log_params({**settings.model_dump(), "people_without_images": len(without_images_of)})
    with artifact.create(out, "model", facts):
        if isinstance(settings, LoraSettings):
            curve, checkpoints = lora.finetune(mllm, data, settings, key, tracker, without_images_of)
        else:
            curve, checkpoints = finetune(mllm, data, settings, key, tracker, without_images_of)
        main_goes_on()
        checkpoint.save_full(mllm, out)
        write_json(out / "history.json", curve)
    for saved in checkpoints:
        saved.clear()
    return {name: value for name, value in curve[-1].items() if name != "step"}


def configuration_of(base: str) -> Path:
    """Where everything of the base but its weights lies, fetched if need be."""
    return _base_directory(base, [pattern for pattern in FILES if pattern != "*.safetensors"])


def _base_directory(base: str, files: Sequence[str] = FILES) -> Path:
    """Where the base lies; one on the hub is fetched first, unless it is in the hub's cache."""
    if base == EMBEDDED:
        return SHIPPED_BASE
    if Path(base).is_dir():
        return Path(base)
    try:
        return Path(snapshot_download(base, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"vanilla.base = {base!r} is no directory and cannot be fetched from the Hugging Face hub ({reason}); give "
            f"{EMBEDDED!r}, a model folder, or the id of a model with safetensors"
        ) from error
