"""`unsee run --stack`: everything that lasts lies in real servers, and a killed run goes on from there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_run import make_run
from mlflow import MlflowClient
from reduced import REDUCED, environment

from unsee import cli
from unsee.benchmark.schema import Benchmark
from unsee.stack import Stack
from unsee.steps import prepare_benchmark, register, report
from unsee.storage import artifact
from unsee.storage.store import Store, open_store
from unsee.storage.transfer import download
from unsee.tracking import NoTracker
from unsee.tracking.mlflow import finish_parent, start_parent, step_run

pytestmark = pytest.mark.timeout(1800)

ASSIGNMENTS = [part for setting in REDUCED for part in ("--set", setting)]
RUN = ("-c", "from unsee.cli import main; main()", "run", "--stack", "--out", "runs/first", *ASSIGNMENTS)
Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """told(argument, …): the exit code of `unsee`, and what it printed to both streams."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unsee", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, empty_database: bytes) -> Iterator[Path]:
    """Where a person stands whose stack is up."""
    directory = tmp_path_factory.mktemp("stands")
    stack = Stack(directory / "runs/stack")
    stack.directory.mkdir(parents=True)
    (stack.directory / "mlflow.db").write_bytes(empty_database)
    stack.up()
    yield directory
    stack.down()


@pytest.fixture(scope="module")
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Addresses and credentials, which this process has as well."""
    with pytest.MonkeyPatch.context() as patch:
        found = Stack(directory / "runs/stack").environment()
        for name, value in found.items():
            patch.setenv(name, value)
        yield found


def started(directory: Path, servers: dict[str, str]) -> subprocess.Popen[bytes]:
    """A run of a person who stands there, and whose environment names no server."""
    variables = environment(UNSEE_CHECKPOINT_SECONDS="0")
    unreached = {name: value for name, value in variables.items() if name not in servers}
    return subprocess.Popen([sys.executable, *RUN], cwd=directory, env=unreached, start_new_session=True)


def saved(kept: Store) -> list[str]:
    """The checkpoints in it; a run that starts tries the store with an object of another name."""
    return [name for name in kept.sizes() if name.endswith(".safetensors")]


def killed_with_a_checkpoint(directory: Path, servers: dict[str, str], kept: Store) -> None:
    """Start a run, kill it once a checkpoint of it is seen, and take its disk."""
    run = started(directory, servers)
    while not saved(kept):
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (directory / "runs/.unsee/checkpoints").exists()
    for lost in ("runs/first", "runs/.unsee"):
        shutil.rmtree(directory / lost)


@pytest.fixture(scope="module")
def checkpoint(directory: Path, servers: dict[str, str]) -> str:
    """What is left of a run that was killed and lost its disk: the name of a checkpoint."""
    checkpoints = open_store(servers["UNSEE_CHECKPOINTS"])
    for _ in range(5):  # a busy machine may come to killing it only after its training has ended
        killed_with_a_checkpoint(directory, servers, checkpoints)
        if left := saved(checkpoints):
            break
    (kept,) = left
    return kept


@pytest.fixture(scope="module")
def registration(
    servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, str]]]:
    """What the last steps of a run register on the stack."""
    place = tmp_path_factory.mktemp("last")
    made, run_id = make_run(place), start_parent("last", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_RUN_ID", run_id)
        with step_run("report") as tracker:
            report.run(**made, out=place / "report", tracker=tracker)
        models = {name: made[name] for name in ("vanilla", "unlearned")}
        with step_run("register") as tracker:
            register.run(preset="last", **models, summary=place / "report", out=place / "registration", tracker=tracker)
    finish_parent(run_id, succeeded=True)
    yield json.loads((place / "registration" / "registration.json").read_text())["models"]


def test_model_versions_point_at_s3_and_are_the_bytes_of_their_sha256(registration, servers, tmp_path):
    assert set(registration) == {"vanilla", "unlearned"}
    for name, model in registration.items():
        version = MlflowClient().get_model_version(model["name"], model["version"])
        assert version.source == f"s3://unsee/artifacts/model/{model['sha256']}"
        assert version.tags["sha256"] == model["sha256"]
        assert download(version.source, tmp_path / name, "model").digest == model["sha256"]


def test_the_benchmark_lies_in_s3_where_mlflow_says(registration, servers, tmp_path):
    run = MlflowClient().get_run(MlflowClient().get_model_version(**_identity(registration["unlearned"])).run_id)
    sources = {json.loads(data.dataset.source)["uri"] for data in run.inputs.dataset_inputs}
    (source,) = sources
    assert source.startswith("s3://unsee/artifacts/benchmark/")
    assert download(source, tmp_path / "benchmark", "benchmark").digest == source.rpartition("/")[2]


def test_mlflow_s_files_of_the_run_lie_in_s3_too(registration, servers):
    run_id = MlflowClient().get_model_version(**_identity(registration["unlearned"])).run_id
    assert MlflowClient().get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:/")
    found = open_store("s3://unsee/mlflow").sizes()
    assert [name for name in found if name.endswith(f"{run_id}/artifacts/report.html")]


def test_steps_of_a_run_save_and_track_themselves_on_the_stack_and_not_here(checkpoint, directory):
    (experiment,) = [e for e in MlflowClient().search_experiments() if e.name == "unsee"]
    runs = MlflowClient().search_runs([experiment.experiment_id])
    parent, *_ = [run for run in runs if run.info.run_name == "vkd first"]
    steps = {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert (parent.info.status, steps["prepare-benchmark"].info.status) == ("RUNNING", "FINISHED")
    (unfinished,) = [name for name, run in steps.items() if run.info.status == "RUNNING"]
    assert unfinished in {"build-vanilla", "build-retrained", "unlearn"}
    assert not (directory / "runs/mlflow.db").exists()


@pytest.mark.slow
def test_a_killed_run_that_lost_its_disk_goes_on_and_its_checkpoints_are_gone_in_the_end(
    checkpoint, directory, servers, tmp_path
):
    assert started(directory, servers).wait() == 0
    assert open_store(servers["UNSEE_CHECKPOINTS"]).sizes() == {}
    assert not (directory / "runs/.unsee/checkpoints").exists()
    assert not (directory / "runs/mlflow.db").exists()
    registered = json.loads((directory / "runs/first/registration.json").read_text())["models"]
    for name, model in registered.items():
        assert download(model["source"], tmp_path / name, "model").digest == model["sha256"]


def test_a_benchmark_is_uploaded_once_and_taken_over_by_its_address(
    directory, servers, told: Told, small_benchmark: Benchmark, tmp_path, monkeypatch
):
    people = small_benchmark.directory
    uploads = [told("benchmark", "upload", str(people)) for _ in range(2)]
    (address,) = {said.strip() for _, said, _ in uploads}
    digest = artifact.read(people, "benchmark").digest
    assert address == f"s3://unsee/artifacts/benchmark/{digest}"
    prepare_benchmark.run(address, tmp_path / "taken", NoTracker())
    assert artifact.read(tmp_path / "taken", "benchmark").digest == digest
    monkeypatch.chdir(directory)
    for name in servers:
        monkeypatch.delenv(name)
    code, _, error = told("run", "--stack", "--out", "runs/address", "--benchmark", address, "--forget", "P999")
    assert (code, error.startswith("unsee: --forget names P999, not in benchmark")) == (2, True)


def test_a_stack_that_is_not_up_is_told_before_anything_starts(told: Told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused() -> str:
        code, _, error = told("run", "--stack", "--out", "runs/out")
        assert code == 2
        assert not (tmp_path / "runs/out").exists()
        return error.strip()

    assert refused() == "unsee: there is no stack in runs/stack; run unsee stack up"
    Stack(tmp_path / "runs/stack").up(["s3"])
    Stack(tmp_path / "runs/stack").down()
    assert refused() == "unsee: the stack in runs/stack is not up (s3, mlflow); run unsee stack up"


def test_a_bucket_for_checkpoints_that_is_not_there_is_told_before_anything_starts(
    servers, told: Told, tmp_path, monkeypatch
):
    monkeypatch.setenv("UNSEE_CHECKPOINTS", "s3://elsewhere/checkpoints")
    code, _, error = told("run", "--out", str(tmp_path / "elsewhere"), *ASSIGNMENTS)
    assert (code, error.startswith("unsee: s3://elsewhere/checkpoints: there is no bucket")) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def _identity(model: dict[str, str]) -> dict[str, str]:
    return {"name": model["name"], "version": model["version"]}
