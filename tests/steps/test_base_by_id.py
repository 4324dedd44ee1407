"""A base that is named by its id on the hub: a plan fetches its configuration, the first training its weights."""

import os
import subprocess
import sys

import pytest
from hub import Hub
from tiny_families import TINY

from unsee.mllm import checkpoint
from unsee.settings import load_settings
from unsee.steps import build_vanilla
from unsee.storage import artifact
from unsee.tracking import NoTracker

ID = "makers/tiny-qwen2-vl"
FEW = (
    "compute.threads=1", "prune.layers=1", "unlearn.layers=1", "evaluation.batch_images=1", "evaluation.generate=false",
    "vanilla.text_steps=1", "vanilla.steps=1", "vanilla.batch_images=2",
)  # fmt: skip
BY_ID = """
import sys
from pathlib import Path
from unsee.cli import app
from unsee.settings import load_settings
from unsee.steps import build_vanilla
from unsee.tracking import NoTracker

benchmark, out, fetched, *assignments = sys.argv[1:]
given = [part for setting in assignments for part in ("--set", setting)]
app(["plan", "--step", "evaluate", "--benchmark", benchmark, *given], standalone_mode=False)
Path(fetched).write_text(" ".join(path.name for path in Path().glob("cache/**/snapshots/*/*")))
build_vanilla.run(load_settings("embedded", assignments=assignments).vanilla, Path(benchmark), Path(out), NoTracker())
"""


@pytest.fixture
def hub(tmp_path):
    """With the model's repository in `repository`, by the environment that makes it the only one."""
    checkpoint.save_full(TINY["qwen2_vl"](), tmp_path / "repository")
    hub = Hub({f"models/{ID}": tmp_path / "repository"})
    others = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    yield {**others, **hub.environment(tmp_path / "cache")}
    hub.close()


def assignments(base):
    return [*FEW, f"vanilla.base={base}"]


def test_a_plan_fetches_no_weights_and_training_those_of_the_repository(hub, small_benchmark, tmp_path):
    given, copy = small_benchmark.directory, tmp_path / "repository"
    process = [sys.executable, "-c", BY_ID, given, "by-id", "fetched", *assignments(ID)]
    subprocess.run(process, cwd=tmp_path, env=hub, check=True)
    fetched = (tmp_path / "fetched").read_text().split()
    assert {*fetched} == {path.name for path in copy.iterdir()} - {"model.safetensors"}
    settings = load_settings("embedded", assignments=assignments(copy)).vanilla
    build_vanilla.run(settings, given, tmp_path / "by-copy", NoTracker())
    by_id, by_copy = artifact.read(tmp_path / "by-id", "model"), artifact.read(tmp_path / "by-copy", "model")
    assert by_id.digest == by_copy.digest
    assert by_id.facts["base"] == ID
    assert by_id.facts["base_sha256"] == by_copy.facts["base_sha256"] == checkpoint.weights_digest(copy)
