"""The real DAG on this machine, its trainings cut to a few steps: results, reuse, and failures."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from mlflow import artifacts
from mlflow.entities import Run
from reduced import INDEPENDENT_OF_THRESHOLD, client, command, environment

from unsee.mllm import checkpoint
from unsee.processes import is_alive
from unsee.storage import artifact

LINE = re.compile(r"\[ *\d+/16\] ([\w-]+) (done|cached|FAILED)")


def outcomes(printed: str) -> dict[str, str]:
    """Step -> done, cached or FAILED."""
    return dict(LINE.findall(printed))


def until(step: str, arguments: list[str]) -> dict[str, str]:
    """Run until the step after `step` begins, then stop everything: the outcomes so far."""
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as run:
        found: dict[str, str] = {}
        for line in run.stdout:
            if step in found:
                os.killpg(run.pid, signal.SIGKILL)
                break
            found |= outcomes(line)
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The output directory of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "first"
    run = subprocess.run(command(out), capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stderr
    assert set(outcomes(run.stdout).values()) == {"done"}
    assert str(out / "report.html") in run.stdout
    return out


def test_a_run_leaves_summary_report_and_log(first):
    summary = json.loads((first / "summary.json").read_text())
    assert set(summary["models"]) == {"vanilla", "retrained", "unlearned"}
    assert {path.name for path in first.iterdir()} == {
        "summary.json",
        "report.html",
        "registration.json",
        "log.txt",
    }


def tracked(out: Path) -> tuple[Run, dict[str, Run]]:
    """The MLflow run of the run in `out`, and the nested ones by their steps."""
    store = client(out)
    (experiment,) = [e for e in store.search_experiments() if e.name == "unsee"]
    (parent,) = store.search_runs([experiment.experiment_id], f"tags.`mlflow.runName` = 'vkd {out.name}'")
    nested = store.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, {run.info.run_name: run for run in nested}


def test_a_run_is_one_finished_mlflow_run_with_a_nested_run_per_step(first):
    parent, steps = tracked(first)
    assert {run.info.status for run in (parent, *steps.values())} == {"FINISHED"}
    assert steps.keys() >= INDEPENDENT_OF_THRESHOLD | {
        "prune", "unlearn", "evaluate-unlearned", "relearn-unlearned", "report"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("step", "losses"),
    [
        ("build-vanilla", {"text_loss", "text_loss_with_faces", "image_loss"}),
        ("build-retrained", {"text_loss", "text_loss_with_faces", "image_loss"}),
        ("unlearn", {"forget_loss", "retain_loss", "vkd_loss"}),
    ],
)
def test_training_curves_are_in_mlflow_as_the_model_keeps_them(first, step, losses):
    run = tracked(first)[1][step]
    earliest = min((first.parent / ".unsee").glob(f"artifacts/*/*/{step}/model/history.json"))
    curve = json.loads(earliest.read_text())
    assert losses <= run.data.metrics.keys()
    for loss in losses:
        points = [(point.step, point.value) for point in client(first).get_metric_history(run.info.run_id, loss)]
        assert points == [(point["step"], point[loss]) for point in curve if loss in point]


def test_the_three_models_are_measured_under_the_same_names(first):
    steps = tracked(first)[1]
    names = [steps[f"evaluate-{model}"].data.metrics.keys() for model in ("vanilla", "retrained", "unlearned")]
    assert names[0] == names[1] == names[2]
    assert "forget/vqa/heldout_accuracy" in names[0]


def test_both_registered_versions_are_downloaded_by_their_addresses_and_load(first, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{first.parent / 'mlflow.db'}")
    registered = json.loads((first / "registration.json").read_text())["models"]
    found = {
        name: Path(artifacts.download_artifacts(model["uri"], dst_path=str(tmp_path / name)))
        for name, model in registered.items()
    }
    assert {name: artifact.read(path, "model").digest for name, path in found.items()} == {
        name: model["sha256"] for name, model in registered.items()
    }
    models = [checkpoint.load(found[name], found["vanilla"]).model for name in ("vanilla", "unlearned")]
    assert checkpoint.changed_tensors(models[1].state_dict(), models[0].state_dict())


@pytest.mark.long
def test_a_run_that_is_terminated_leaves_nothing_running(first):
    arguments = command(first.parent / "stopped", "vanilla.steps=100000")
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as run:
        assert any("learning faces" in line for line in run.stdout)
        steps = psutil.Process(run.pid).children(recursive=True)
        run.terminate()
        assert run.wait(timeout=60) == 128 + signal.SIGTERM
    assert steps
    assert not any(map(is_alive, steps))
    parent, nested = tracked(first.parent / "stopped")
    assert parent.info.status == "FAILED"
    statuses = {run.info.status for run in nested.values()}
    assert "KILLED" in statuses
    assert "RUNNING" not in statuses


@pytest.mark.long
def test_a_damaged_artifact_fails_once_and_is_made_anew(first):
    (weights,) = (first.parent / ".unsee").glob("artifacts/*/*/collect-statistics/statistics/importance.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    arguments = command(first.parent / "damaged", "prune.threshold.fraction=0.3")
    failed = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert failed.returncode == 2
    assert failed.stderr.startswith("unsee: ")
    assert "importance.safetensors" in failed.stderr
    assert "Traceback" not in failed.stderr
    found = outcomes(failed.stdout)
    assert (found["build-vanilla"], found["collect-statistics"], found["prune"]) == ("cached", "cached", "FAILED")
    assert not (first.parent / "damaged" / "summary.json").exists()
    assert tracked(first.parent / "damaged")[0].info.status == "FAILED"
    again = until("prune", arguments)
    assert (again["build-vanilla"], again["collect-statistics"], again["prune"]) == ("cached", "done", "done")
