"""One tiny run of every step, two training steps each, shared by the tests of this folder."""

from pathlib import Path

import pytest
from tiny_run import TinyRun, through_all_steps
from unlearning_work import written

from unsee.benchmark.schema import Benchmark
from unsee.mllm import checkpoint
from unsee.settings import load_settings

TINY = """
compute: {threads: 1}
vanilla: {text_steps: 2, steps: 2, batch_images: 4, questions_per_image: 2}
statistics: {batch_images: 3}
prune: {threshold: {fraction: 0.05}, layers: 2}
unlearn:
  {epochs: 1, least_steps: 1, versions: 2, batch_forget_images: 3, batch_retain_images: 3, layers: 2,
   mask: {fraction: 0.5}, mask_on: update,
   learning_rate: 1e-3}
evaluation: {bootstrap: 20}
relearn: {percents: [20, 50], samplings: [person, image], epochs: 1, batch_images: 3}
"""


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    config.write_text(TINY)
    return load_settings("embedded", config=config)


@pytest.fixture(scope="session")
def few_people(small_benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """The small benchmark with two real-world people of twenty: every evaluation asks about them."""
    return with_two_known(small_benchmark, tmp_path_factory.mktemp("few") / "mllmu")


@pytest.fixture(scope="session")
def few_people_in_captions(clear_benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """The same of CLEAR's shape."""
    return with_two_known(clear_benchmark, tmp_path_factory.mktemp("few") / "clear")


def with_two_known(benchmark: Benchmark, out: Path) -> Benchmark:
    """A copy in which two of the real-world people are left."""
    two = sorted(benchmark.realworld)[:2]
    kept = [q for q in benchmark.questions if q.split != "realworld" or q.entity_id in two]
    return written(benchmark, kept, out)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory, tiny_settings, fresh):
    """make_run(family, benchmark, name): all steps from the shipped base or a fresh Qwen2-VL."""

    def make(family, given, name="unlearned"):
        settings = tiny_settings
        if family == "qwen2_vl":
            base = tmp_path_factory.mktemp("base")
            checkpoint.save_full(fresh["qwen2_vl"], base)
            vanilla = settings.vanilla.model_copy(update={"base": str(base)})
            settings = settings.model_copy(update={"vanilla": vanilla})
        run = TinyRun(tmp_path_factory.mktemp("run"), settings, {}, {})
        return through_all_steps(run, str(given.directory), name)

    return make


@pytest.fixture(scope="session", params=["llava", "qwen2_vl"])
def tiny_run(request, make_run, few_people):
    """A run on the small benchmark."""
    return make_run(request.param, few_people)
