"""Where steps run: one sentence says what containers lack; forks need no GPU; a step that left no outputs failed."""

import json

import pytest
import torch
from kfp.local import subprocess_task_handler

from unsee.errors import UserError
from unsee.storage import artifact
from unsee_pipelines import runners
from unsee_pipelines.cache import drop_damaged
from unsee_pipelines.outputs import is_complete


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def test_containers_need_an_engine():
    with pytest.raises(UserError, match=r"no Docker engine answers at unix:///nowhere/docker.sock"):
        runners.named("docker")()


@pytest.mark.parametrize("uri", [None, "sqlite:///mlflow.db"])
def test_containers_need_a_tracking_server(monkeypatch, uri):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI .* is no server.*--stack"):
        runners.named("docker")()


def test_with_a_gpu_steps_are_processes_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    own = subprocess_task_handler.run_local_subprocess
    with runners.Processes().of_kfp(tmp_path, [], []):
        assert subprocess_task_handler.run_local_subprocess is own
    monkeypatch.undo()
    with runners.Processes().of_kfp(tmp_path, [], []):
        assert subprocess_task_handler.run_local_subprocess is not own
    assert subprocess_task_handler.run_local_subprocess is own


LOOPS = "for-loop-2-iteration-0/for-loop-4-iteration-1"


@pytest.fixture(params=["", LOOPS])
def step(request, tmp_path):
    """The directory of a step, in loops or not, that left a model and its metrics."""
    step = tmp_path / "pipeline" / request.param / "unlearn"
    with artifact.create(step / "model", "model", {}):
        (step / "model" / "weights").touch()
    (step / "metrics").touch()
    uris = {name: {"artifacts": [{"uri": str(step / name)}]} for name in ("model", "metrics")}
    (step / "executor_output.json").write_text(json.dumps({"artifacts": uris}))
    return step


def test_a_step_that_left_all_is_complete(step, tmp_path):
    assert is_complete(tmp_path, "unlearn")


@pytest.mark.parametrize("lost", ["executor_output.json", "model/manifest.json", "metrics"])
def test_a_step_that_left_something_out_is_not(step, tmp_path, lost):
    (step / lost).unlink()
    assert not is_complete(tmp_path, "unlearn")


def test_no_iteration_may_leave_something_out(step, tmp_path):
    (tmp_path / "pipeline" / "for-loop-2-iteration-1" / "unlearn").mkdir(parents=True)
    assert not is_complete(tmp_path, "unlearn")


def test_an_artifact_of_the_step_s_name_is_no_step(step, tmp_path):
    (step / "unlearn").mkdir()
    assert is_complete(tmp_path, "unlearn")


def test_a_step_that_never_started_is_not_complete(tmp_path):
    assert not is_complete(tmp_path, "unlearn")


def test_a_cached_result_that_is_none_is_dropped(step, tmp_path):
    cached = {"whole": {"model": {"uri": str(step / "model")}}, "none": {}}
    for name, outputs in cached.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(outputs))
    drop_damaged(tmp_path)
    assert [file.name for file in tmp_path.glob("*.json")] == ["whole.json"]
