"""What steps leave on disk and in a store is as large as planned, beside the headers of files and what people read."""

import pytest
from tiny_families import TINY
from tiny_run import TinyRun

from unsee.benchmark import embedded
from unsee.mllm import checkpoint
from unsee.plan import plan
from unsee.sections import BenchmarkSettings
from unsee.settings import load_settings
from unsee.steps import build_vanilla, collect_statistics, prune, unlearn
from unsee.storage.store import open_store
from unsee.storage.transfer import upload

KINDS = {"build-vanilla": "model", "collect-statistics": "statistics", "unlearn": "model"}
SMALL = """
compute: {threads: 1, checkpointing: false}
statistics: {batch_images: 4}
prune: {threshold: {fraction: 0.1}, layers: 1}
unlearn:
  {layers: 1, epochs: 1, least_steps: 1, versions: 1, batch_forget_images: 2, batch_retain_images: 2, batch_people: 2,
   micro_batch_images: 2}
"""
WHOLE = ("vanilla.text_steps=0", "vanilla.steps=1", "vanilla.batch_images=2")
LORA = ("vanilla.epochs=1", "vanilla.rank=2", "compute.precision=bfloat16")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "people"
    embedded.generate(BenchmarkSettings(forget=1, retain=1, train_views=2, heldout_views=1, seed=5), out)
    return out


@pytest.mark.parametrize(
    ("family", "preset", "method", "given", "steps"),
    [
        ("llava", "llava-1.5-7b-mllmu", "vkd", LORA, ["build-vanilla", "collect-statistics", "unlearn"]),
        ("qwen2_vl", "embedded", "ga_diff", WHOLE, ["unlearn"]),
    ],
)
def test_the_tensors_that_steps_leave_are_as_large_as_planned(
    family, preset, method, given, steps, people, s3, tmp_path
):
    checkpoint.save_full(TINY[family](), tmp_path / "base")
    (tmp_path / "small.yaml").write_text(SMALL)
    settings = load_settings(
        preset, config=tmp_path / "small.yaml", assignments=[*given, f"vanilla.base={tmp_path / 'base'}"],
        method=method, benchmark=str(people),
    )  # fmt: skip
    planned = plan(settings, people, only=steps, both_ways=False).steps
    run = TinyRun(tmp_path, settings, {}, {})
    run.step("build-vanilla", build_vanilla.run, settings.vanilla, people)
    inputs = [run["build-vanilla"]]
    run.step("collect-statistics", collect_statistics.run, settings.statistics, people, [], *inputs)
    run.step("pruning", prune.run, settings.prune, run["collect-statistics"])
    inputs += [run["collect-statistics"], run["pruning"], None]
    run.step("unlearn", unlearn.run, settings.unlearn, people, [], *inputs)
    for step in steps:
        stored = open_store(upload(run[step], KINDS[step], s3)).sizes()
        files = list(run[step].glob("*.safetensors"))
        assert sum(stored[file.name] - header(file) for file in files) == planned[step].disk_bytes, step


def header(file):
    """Bytes of a safetensors file before its tensors: first the length of what follows."""
    with file.open("rb") as opened:
        return 8 + int.from_bytes(opened.read(8), "little")
