"""The real steps in two processes, on the inputs that one had: the same artifacts, the same told to the tracker."""

import inspect
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import Recorder

from unsee.launching import PROCESSES
from unsee.steps import build_vanilla, collect_statistics, evaluate, relearn_attack, unlearn
from unsee.storage import artifact
from unsee.storage.store import FileStore
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker
from unsee.unlearning.saliency import saliency_mask

pytestmark = pytest.mark.long

EVERYBODY: list[str] = []
ONE_STEP = str(Path(__file__).parents[1] / "slow" / "one_step.py")


@pytest.fixture(scope="module")
def tiny_run(make_run, few_people):
    """A run of one family: what is divided does not depend on it."""
    return make_run("llava", few_people)


@pytest.fixture(autouse=True)
def two(monkeypatch):
    monkeypatch.setenv(PROCESSES, "2")


@pytest.fixture
def again(tiny_run, tmp_path):
    """again(step, kind, run, *inputs): the step once more; its new directory, after its tracker has been compared."""

    def again(step, kind, run, *inputs):
        tracker, alone = Recorder(), tiny_run.trackers[step]
        run(*inputs, tmp_path / "out", tracker)
        assert tracker.params == alone.params
        assert tracker.artifacts == alone.artifacts
        assert [step for step, _ in tracker.metrics] == [step for step, _ in alone.metrics]
        assert artifact.read(tmp_path / "out", kind).files.keys() == artifact.read(tiny_run[step], kind).files.keys()
        return tmp_path / "out"

    return again


def read(path):
    return json.loads(path.read_text())


def assert_same_losses(found, expected):
    for point, wanted in zip(read(found / "history.json"), read(expected / "history.json"), strict=True):
        assert point.keys() == wanted.keys()
        assert all(math.isclose(point[name], wanted[name], rel_tol=1e-5, abs_tol=1e-8) for name in wanted)


def test_build_vanilla(tiny_run, again):
    found = again("vanilla", "model", build_vanilla.run, tiny_run.settings.vanilla, tiny_run["benchmark"])
    assert_same_losses(found, tiny_run["vanilla"])


def test_collect_statistics(tiny_run, again):
    inputs = tiny_run.settings.statistics, tiny_run["benchmark"], EVERYBODY, tiny_run["vanilla"]
    found = again("statistics", "statistics", collect_statistics.run, *inputs)
    for file in ("importance.safetensors", "fisher.safetensors"):
        for name, expected in load_file(tiny_run["statistics"] / file).items():
            difference = (load_file(found / file)[name] - expected).norm()
            assert difference <= 1e-5 * expected.norm(), name
    of_two, of_one = (vkd_mask(path, tiny_run.settings.unlearn.mask) for path in (found, tiny_run["statistics"]))
    agree = torch.cat([(mask.unpack() == of_one.masks[name].unpack()).flatten() for name, mask in of_two.masks.items()])
    assert 0 < sum(kept["kept"] for kept in of_one.density.values()) < len(agree)
    assert agree.float().mean() >= 0.9999


def vkd_mask(statistics, threshold):
    fisher = unlearn.read_fisher(statistics)
    return saliency_mask(fisher["forget_vqa"], [fisher["retain_vqa"]], threshold)


def unlearn_inputs(run):
    names = ("vanilla", "statistics", "pruning", "retrained")
    return run.settings.unlearn, run["benchmark"], EVERYBODY, *(run[name] for name in names)


def test_unlearn(tiny_run, again):
    inputs = unlearn_inputs(tiny_run)
    found = again("unlearned", "model", unlearn.run, *inputs)
    assert_same_losses(found, tiny_run["unlearned"])
    assert read(found / "mask.json") == read(tiny_run["unlearned"] / "mask.json")
    of_two, of_one = (load_file(path / "delta.safetensors") for path in (found, tiny_run["unlearned"]))
    assert of_two.keys() == of_one.keys()
    for name, expected in of_one.items():
        assert (of_two[name] - expected).norm() <= 1e-4 * expected.norm(), name


def test_evaluate(tiny_run, again):
    inputs = tiny_run["benchmark"], EVERYBODY, "unlearned", tiny_run["unlearned"], tiny_run["vanilla"]
    found = again("evaluation-unlearned", "evaluation", evaluate.run, tiny_run.settings.evaluation, *inputs)
    of_two, of_one = (
        pq.read_table(path / "predictions.parquet").to_pylist() for path in (found, tiny_run["evaluation-unlearned"])
    )
    for row, wanted in zip(of_two, of_one, strict=True):
        scores, wanted_scores = row.pop("scores"), wanted.pop("scores")
        assert row == wanted
        assert wanted_scores is None or np.allclose(scores, wanted_scores, rtol=1e-5)


def test_relearn_attack(tiny_run, again):
    inputs = tiny_run["benchmark"], EVERYBODY, "unlearned", tiny_run["unlearned"], tiny_run["vanilla"]
    found = again("relearning-unlearned", "relearning", relearn_attack.run, tiny_run.settings.relearn, *inputs)
    assert read(found / "relearning.json") == read(tiny_run["relearning-unlearned"] / "relearning.json")


def killed_once_saved(inputs, out, store):
    """The step in a process of its own, which is killed as soon as there is a checkpoint."""
    names = inspect.signature(unlearn.run).parameters
    given = dict(zip(names, (*inputs, out), strict=False))
    given["settings"] = given["settings"].model_dump(mode="json")
    process = subprocess.Popen([sys.executable, ONE_STEP, "unlearn", json.dumps(given, default=str)])
    while process.poll() is None and not store.sizes():
        time.sleep(0.005)
    process.kill()
    process.wait()


def test_a_step_that_was_killed_goes_on_to_the_bytes_it_writes_undisturbed(tiny_run, tmp_path, monkeypatch):
    inputs, store = unlearn_inputs(tiny_run), FileStore(tmp_path / "checkpoints")
    unlearn.run(*inputs, tmp_path / "undisturbed", NoTracker())
    monkeypatch.setenv(CHECKPOINTS, store.uri)
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "0")
    killed_once_saved(inputs, tmp_path / "out", store)
    assert store.sizes()
    unlearn.run(*inputs, tmp_path / "out", NoTracker())
    found, expected = (artifact.read(tmp_path / name, "model").files for name in ("out", "undisturbed"))
    assert found == expected
    assert not store.sizes()
