"""What steps that compute with a model share: opening its artifact, with its base if it is a delta."""

from pathlib import Path

from unsee.compute import Compute
from unsee.mllm import checkpoint
from unsee.mllm.families import Mllm
from unsee.sections import ComputeSettings
from unsee.storage import artifact


def open_model(model: Path, base: Path | None, settings: ComputeSettings) -> Mllm:
    """A verified model artifact, ready to compute. `base`: where a delta's base lies."""
    artifact.read(model, "model")
    compute = Compute.of(settings)
    compute.start()
    return checkpoint.load(model, base, compute)
