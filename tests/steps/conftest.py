"""One tiny run of every step, two training steps each, shared by the tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from unsee.mllm import checkpoint
from unsee.settings import Settings, load_settings
from unsee.steps import (
    build_retrained,
    build_vanilla,
    collect_statistics,
    evaluate,
    prepare_benchmark,
    prune,
    relearn_attack,
    unlearn,
)
from unsee.tracking import NoTracker

TINY = """
threads: 1
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


class Recorder(NoTracker):
    """Keeps what a step tells its tracker."""

    def __init__(self):
        self.params, self.metrics, self.artifacts = {}, [], []

    def log_params(self, params):
        self.params.update(params)

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path):
        self.artifacts.append(path.name)


@dataclass(frozen=True)
class TinyRun:
    """Directories, returned metrics and trackers of the steps, by step name."""

    root: Path
    settings: Settings
    returned: dict[str, dict[str, float]]
    trackers: dict[str, Recorder]

    def __getitem__(self, step: str) -> Path:
        return self.root / step

    def step(self, name, run, *arguments):
        """Run a step into the directory of its name."""
        self.trackers[name] = Recorder()
        self.returned[name] = run(*arguments, self.root / name, self.trackers[name])


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    config.write_text(TINY)
    return load_settings("embedded", config=config)


def through_all_steps(run, source, name="unlearned"):
    """prepare → vanilla → retrained → statistics → prune → unlearn → evaluate → relearn; `name` is the unlearned
    model's."""
    settings, benchmark, everybody = run.settings, run["benchmark"], []
    run.step("benchmark", prepare_benchmark.run, source)
    run.step("vanilla", build_vanilla.run, settings.vanilla, benchmark)
    run.step("retrained", build_retrained.run, settings.vanilla, benchmark, everybody)
    run.step("statistics", collect_statistics.run, settings.statistics, benchmark, everybody, run["vanilla"])
    run.step("pruning", prune.run, settings.prune, run["statistics"])
    inputs = (run["vanilla"], run["statistics"], run["pruning"], run["retrained"])
    run.step(name, unlearn.run, settings.unlearn, benchmark, everybody, *inputs)
    for model, base in (("vanilla", None), ("retrained", None), (name, run["vanilla"])):
        examined = (benchmark, everybody, model, run[model], base)
        run.step(f"evaluation-{model}", evaluate.run, settings.evaluation, *examined)
        run.step(f"relearning-{model}", relearn_attack.run, settings.relearn, *examined)
    return run


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
        return through_all_steps(run, given.directory, name)

    return make


@pytest.fixture(scope="session", params=["llava", "qwen2_vl"])
def tiny_run(request, make_run, small_benchmark):
    """A run on the small benchmark."""
    return make_run(request.param, small_benchmark)
