"""More tower layers than there are, on a model that is not looked into before it is trained: told by the setting."""

import pytest
import torch
from safetensors.torch import save_file

from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.settings import load_settings
from unsee.statistics.importance import flatten
from unsee.steps import prune, unlearn
from unsee.storage import artifact
from unsee.tracking import NoTracker

SETTINGS = load_settings("embedded", assignments=["vanilla.base=/models/llava", "prune.layers=5", "unlearn.layers=6"])
FEW = "but 4 tower layers feed the projector; give at most 4$"


@pytest.fixture
def made(llava, tmp_path):
    """The artifacts that unlearn reads, as far as it reads them before it looks at its settings."""
    importance = {name: {layer: torch.rand(512) for layer in range(4)} for name in ("forget_vqa", "retain_vqa")}
    with artifact.create(tmp_path / "model", "model", {}) as out:
        checkpoint.save_full(llava, out)
    with artifact.create(tmp_path / "statistics", "statistics", {}) as out:
        save_file(flatten(importance), out / "importance.safetensors")
    with artifact.create(tmp_path / "pruning", "pruning", {}):
        pass
    return tmp_path


def test_prune_tells_it(made):
    with pytest.raises(UserError, match=f"^prune.layers = 5, {FEW}"):
        prune.run(SETTINGS.prune, made / "statistics", made / "out", NoTracker())
    assert not (made / "out").exists()


def test_unlearn_tells_it(made, small_benchmark):
    *inputs, out = (made / name for name in ("model", "statistics", "pruning", "out"))
    with pytest.raises(UserError, match=f"^unlearn.layers = 6, {FEW}"):
        unlearn.run(SETTINGS.unlearn, small_benchmark.directory, [], *inputs, None, out, NoTracker())
    assert not (made / "out").exists()
