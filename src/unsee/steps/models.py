"""What steps that compute with a model share: opening its artifact, with its base if it is a delta."""

from pathlib import Path

from unsee.mllm import checkpoint
from unsee.mllm.families import Mllm, set_compute
from unsee.storage import artifact


def open_model(model: Path, base: Path | None, threads: int) -> Mllm:
    """A verified model artifact, ready to compute with this many threads. `base`: where a delta's base lies."""
    artifact.read(model, "model")
    set_compute(threads)
    return checkpoint.load(model, base)
