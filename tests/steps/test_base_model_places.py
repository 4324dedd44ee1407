"""Where a base model is taken from: a directory, or the hub's cache; anything else is told."""

import huggingface_hub.constants
import pytest

from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.settings import load_settings
from unsee.steps import build_vanilla
from unsee.tracking import NoTracker

REVISION = "0123456789abcdef0123456789abcdef01234567"
REDUCED = ("compute.threads=1", "vanilla.text_steps=1", "vanilla.steps=1", "vanilla.batch_images=1")


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub, which itself cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def build(base, benchmark, out):
    settings = load_settings("embedded", assignments=[*REDUCED, f"vanilla.base={base}"]).vanilla
    build_vanilla.run(settings, benchmark.directory, out, NoTracker())


def test_a_model_of_the_hub_is_taken_from_its_cache(llava, small_benchmark, hub_cache, tmp_path):
    repository = hub_cache / "models--makers--tiny-llava"
    checkpoint.save_full(llava, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    build("makers/tiny-llava", small_benchmark, tmp_path / "vanilla")
    assert checkpoint.load_full(tmp_path / "vanilla").model.state_dict().keys() == llava.model.state_dict().keys()


@pytest.mark.parametrize("base", ["makers/unknown", "./no/such/directory"])
def test_a_base_that_is_nowhere_is_told_and_nothing_is_left(base, small_benchmark, tmp_path):
    with pytest.raises(
        UserError, match=rf"vanilla.base = '{base}' is no directory and cannot be fetched .*; give 'emb"
    ):
        build(base, small_benchmark, tmp_path / "vanilla")
    assert not (tmp_path / "vanilla").exists()
