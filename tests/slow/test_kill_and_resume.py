"""Every step, killed by SIGKILL at random instants and run again, writes the bytes it writes undisturbed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from unsee.stack import Stack
from unsee.steps import resolve_settings
from unsee.storage import artifact
from unsee.storage.store import open_store
from unsee.training import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

REDUCED = [
    "benchmark.forget=3",
    "benchmark.retain=5",
    "benchmark.train_views=3",
    "benchmark.heldout_views=1",
    "vanilla.text_steps=4",
    "vanilla.steps=10",
    "vanilla.batch_images=8",
    "unlearn.epochs=3",
    "unlearn.least_steps=1",
    "unlearn.versions=2",
    "unlearn.batch_forget_images=1",
    "unlearn.batch_retain_images=4",
    "evaluation.bootstrap=100",
    "relearn.percents=[30,60]",
    "relearn.epochs=1",
]
KILLS = {
    "prepare-benchmark": 2,
    "build-vanilla": 2,
    "build-retrained": 2,
    "collect-statistics": 2,
    "prune": 2,
    "unlearn": 10,
    "evaluate-unlearned": 2,
    "relearn-unlearned": 2,
    "report": 2,
    "register": 2,
}
IMPOSSIBLE_LOSS = 99.0


@dataclass(frozen=True)
class Step:
    """A step's module, the kind of artifact it writes, and its arguments besides `out`."""

    module: str
    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a step runs, and finds what it left when it was killed."""

    directory: Path
    elsewhere: str = ""

    @property
    def out(self) -> Path:
        return self.directory / "out"

    @property
    def checkpoints(self) -> str:
        return self.elsewhere or (self.directory / "checkpoints").as_uri()

    @classmethod
    def make(cls, directory: Path, store: Path, checkpoints: str = "") -> "Place":
        """An empty place with an MLflow store of its own, and checkpoints of its own unless they are elsewhere."""
        directory.mkdir(parents=True)
        shutil.copyfile(store, directory / "mlflow.db")
        return cls(directory, checkpoints)

    def start(self, step: Step) -> subprocess.Popen[str]:
        untracked = {name: v for name, v in os.environ.items() if not name.startswith(("MLFLOW_", "KFP_", "UNSEE_"))}
        variables = {
            "UNSEE_CHECKPOINTS": self.checkpoints,
            "UNSEE_CHECKPOINT_SECONDS": "0",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.directory / 'mlflow.db'}",
        }
        arguments = json.dumps({**step.arguments, "out": str(self.out)})
        command = [sys.executable, str(Path(__file__).with_name("one_step.py")), step.module, arguments]
        with (self.directory / "log.txt").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, text=True, env={**untracked, **variables})

    def finish(self, step: Step) -> dict[str, str]:
        """Run the step to its end: the sha256 of every file it wrote."""
        code = self.start(step).wait()
        assert code == 0, (self.directory / "log.txt").read_text()
        return artifact.read(self.out, step.kind).files

    def history(self) -> list[dict[str, float]]:
        return json.loads((self.out / "history.json").read_text())


@dataclass(frozen=True)
class Undisturbed:
    """A step that nobody killed: how long it took, and the sha256 of its files."""

    place: Place
    step: Step
    seconds: float
    files: dict[str, str]


def plan(root: Path) -> dict[str, Step]:
    """The steps of a small run, in an order in which they can run; each finds its inputs under `root`."""
    sections = resolve_settings.run("embedded", REDUCED, "", "vkd", 0)
    settings = {name: json.loads(section) for name, section in sections.items()}

    def made(step: str) -> str:
        return str(Place(root / step).out)

    vanilla, retrained, unlearned = made("build-vanilla"), made("build-retrained"), made("unlearn")
    models = {"vanilla": (vanilla, None), "retrained": (retrained, None), "unlearned": (unlearned, vanilla)}
    data = {"benchmark": made("prepare-benchmark")}
    request = {**data, "forget": []}
    measured = {"statistics": made("collect-statistics"), "pruning": made("prune")}
    examined = {}
    for name, (model, base) in models.items():
        given = {**request, "name": name, "model": model, "base": base}
        examined[f"evaluate-{name}"] = Step("evaluate", "evaluation", {**given, "settings": settings["evaluation"]})
        attack = Step("relearn_attack", "relearning", {**given, "settings": settings["relearn"]})
        examined[f"relearn-{name}"] = attack
    reported = {
        **request,
        **measured,
        "vanilla": vanilla,
        "retrained": retrained,
        "unlearned": unlearned,
        "settings": sections,
        "evaluations": {name: made(f"evaluate-{name}") for name in models},
        "relearning": {name: made(f"relearn-{name}") for name in models},
    }
    registered = {"preset": "embedded", "vanilla": vanilla, "unlearned": unlearned, "summary": made("report")}
    trained = {"settings": settings["unlearn"], "model": vanilla, "retrained": retrained}
    return {
        "prepare-benchmark": Step("prepare_benchmark", "benchmark", {"source": settings["benchmark"]}),
        "build-vanilla": Step("build_vanilla", "model", {**data, "settings": settings["vanilla"]}),
        "build-retrained": Step("build_retrained", "model", {**request, "settings": settings["vanilla"]}),
        "collect-statistics": Step(
            "collect_statistics", "statistics", {**request, "settings": settings["statistics"], "model": vanilla}
        ),
        "prune": Step("prune", "pruning", {"settings": settings["prune"], "statistics": measured["statistics"]}),
        "unlearn": Step("unlearn", "model", {**request, **measured, **trained}),
        **examined,
        "report": Step("report", "report", reported),
        "register": Step("register", "registration", registered),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store whose tables exist: creating them is MLflow's work, not a step's."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, store: Path) -> dict[str, Undisturbed]:
    """Every step run once, in the order of the plan."""
    root = tmp_path_factory.mktemp("undisturbed")
    return {name: run_undisturbed(Place.make(root / name, store), step) for name, step in plan(root).items()}


def run_undisturbed(place: Place, step: Step) -> Undisturbed:
    started = time.monotonic()
    files = place.finish(step)
    return Undisturbed(place, step, time.monotonic() - started, files)


def instants(name: str, seconds: float) -> list[float]:
    """Random instants of a step's life, one in each of as many equal spans as there are kills."""
    count = KILLS[name]
    return ((np.arange(count) + np.random.default_rng(list(name.encode())).random(count)) * seconds / count).tolist()


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """SIGKILL, unless the process was faster."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()


@pytest.mark.parametrize("name", KILLS)
def test_a_step_killed_at_any_instant_and_run_again_writes_the_same_bytes(name, undisturbed, store, tmp_path):
    step, expected = undisturbed[name].step, undisturbed[name]
    for number, instant in enumerate(instants(name, expected.seconds)):
        place = Place.make(tmp_path / str(number), store)
        kill_after(place.start(step), instant)
        if (place.out / artifact.MANIFEST).exists():
            artifact.read(place.out, step.kind)  # raises unless every file is there and whole
        assert place.finish(step) == expected.files, f"killed after {instant:.2f} of {expected.seconds:.2f} s"


@pytest.fixture(params=["directory", "s3"])
def checkpoints(request, tmp_path, monkeypatch) -> Iterator[str]:
    """An address for checkpoints: the place's own, and a real object store."""
    if request.param == "directory":
        yield ""
        return
    stack = Stack(tmp_path / "stack")
    stack.up(["s3"])
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    yield stack.environment()["UNSEE_CHECKPOINTS"]
    stack.down()


@pytest.mark.parametrize(
    ("name", "trainings", "weights"), [("build-vanilla", 2, "model.safetensors"), ("unlearn", 1, "delta.safetensors")]
)
def test_a_killed_training_repeats_no_step_that_its_checkpoint_holds(
    name, trainings, weights, undisturbed, store, checkpoints, tmp_path
):
    """The losses recorded in the checkpoint are marked: a step that was computed again would lose its mark.

    With checkpoints in an object store, nothing else is left of the killed run.
    """
    expected = undisturbed[name]
    place = Place.make(tmp_path / name, store, checkpoints)
    kill_once_saved(place.start(expected.step), place, trainings)
    marked = mark_losses(place)
    if checkpoints:
        place = Place.make(tmp_path / "empty", store, checkpoints)
    files = place.finish(expected.step)
    history, original = place.history(), expected.place.history()
    resumed = [IMPOSSIBLE_LOSS in point.values() for point in history]
    assert 0 < marked < len(history)
    assert sum(resumed) == marked
    assert [p for p, r in zip(history, resumed, strict=True) if not r] == [
        p for p, r in zip(original, resumed, strict=True) if not r
    ]
    assert files[weights] == expected.files[weights]
    assert open_store(place.checkpoints).sizes() == {}


def kill_once_saved(process: subprocess.Popen[str], place: Place, trainings: int) -> None:
    """SIGKILL as soon as this many trainings of the step have saved a checkpoint."""
    store = open_store(place.checkpoints)
    while process.poll() is None and len(store.sizes()) < trainings:
        time.sleep(0.005)
    process.kill()
    process.wait()


def mark_losses(place: Place) -> int:
    """Replace all recorded losses by an impossible one; returns how many steps the checkpoints hold."""
    steps, store = 0, open_store(place.checkpoints)
    for name in store.sizes():
        saved = Checkpoints(store, name)
        tensors, state = saved.load()
        curve = [{**dict.fromkeys(point, IMPOSSIBLE_LOSS), "step": point["step"]} for point in state["curve"]]
        saved.save(tensors, {"curve": curve})
        steps += len(curve)
    return steps
