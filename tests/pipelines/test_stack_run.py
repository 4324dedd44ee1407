"""`unsee run --stack`: everything that lasts lies in real servers, and a killed run goes on from there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from reduced import REDUCED, environment

from unsee.stack import Stack
from unsee.steps import prepare_benchmark
from unsee.storage import artifact
from unsee.storage.store import Store, open_store
from unsee.storage.transfer import download
from unsee.tracking import NoTracker

pytestmark = pytest.mark.timeout(1800)

ASSIGNMENTS = [part for setting in REDUCED for part in ("--set", setting)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from unsee.cli import main; main()", *arguments]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a person stands whose stack is up."""
    directory = tmp_path_factory.mktemp("stands")
    Stack(directory / "runs/stack").up()
    yield directory
    Stack(directory / "runs/stack").down()


@pytest.fixture(scope="module")
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Addresses and credentials, which this process has as well."""
    with pytest.MonkeyPatch.context() as patch:
        found = Stack(directory / "runs/stack").environment()
        for name, value in found.items():
            patch.setenv(name, value)
        yield found


def killed_with_a_checkpoint(arguments: list[str], directory: Path, variables: dict[str, str], kept: Store) -> None:
    """Start a run, kill it once a checkpoint of it is seen, and take its disk."""
    run = subprocess.Popen(arguments, cwd=directory, env=variables, start_new_session=True)
    while not kept.sizes():
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    for lost in ("runs/first", "runs/.unsee"):
        shutil.rmtree(directory / lost)


@pytest.fixture(scope="module")
def registration(directory: Path, servers: dict[str, str]) -> dict[str, dict[str, str]]:
    """What a run registered, the first attempt of which was killed and lost its disk."""
    arguments = command("run", "--stack", "--out", "runs/first", *ASSIGNMENTS)
    variables = environment(UNSEE_CHECKPOINT_SECONDS="0")
    unreached = {name: value for name, value in variables.items() if name not in servers}
    checkpoints = open_store(servers["UNSEE_CHECKPOINTS"])
    for _ in range(5):  # a busy machine may come to killing it only after its training has ended
        killed_with_a_checkpoint(arguments, directory, unreached, checkpoints)
        if left := checkpoints.sizes():
            break
    (kept,) = left
    subprocess.run(arguments, cwd=directory, env=unreached, check=True)
    assert kept not in checkpoints.sizes()
    return json.loads((directory / "runs/first/registration.json").read_text())["models"]


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


def test_checkpoints_are_gone_when_all_is_published_and_none_were_kept_here(registration, directory, servers):
    assert open_store(servers["UNSEE_CHECKPOINTS"]).sizes() == {}
    assert not (directory / "runs/.unsee/checkpoints").exists()
    assert not (directory / "runs/mlflow.db").exists()


def test_a_benchmark_is_uploaded_once_and_taken_over_by_its_address(directory, servers, tmp_path):
    subprocess.run(command("benchmark", "generate", "--out", "people"), cwd=directory, check=True)
    addresses = {
        subprocess.run(
            command("benchmark", "upload", "people"), cwd=directory, check=True, capture_output=True, text=True
        ).stdout.strip()
        for _ in range(2)
    }
    (address,) = addresses
    digest = artifact.read(directory / "people", "benchmark").digest
    assert address == f"s3://unsee/artifacts/benchmark/{digest}"
    prepare_benchmark.run(address, tmp_path / "taken", NoTracker())
    assert artifact.read(tmp_path / "taken", "benchmark").digest == digest
    arguments = command("run", "--stack", "--out", "runs/address", "--benchmark", address, "--forget", "P999")
    unreached = {name: value for name, value in environment().items() if name not in servers}
    run = subprocess.run(arguments, cwd=directory, env=unreached, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.startswith("unsee: --forget names P999, not in benchmark")) == (2, True)


def test_a_stack_that_is_not_up_is_told_before_anything_starts(tmp_path):
    def refused() -> str:
        arguments = command("run", "--stack", "--out", "runs/out")
        run = subprocess.run(arguments, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert not (tmp_path / "runs/out").exists()
        return run.stderr.strip()

    assert refused() == "unsee: there is no stack in runs/stack; run unsee stack up"
    Stack(tmp_path / "runs/stack").up(["s3"])
    Stack(tmp_path / "runs/stack").down()
    assert refused() == "unsee: the stack in runs/stack is not up (s3, mlflow); run unsee stack up"


def test_a_bucket_for_checkpoints_that_is_not_there_is_told_before_anything_starts(directory, servers):
    variables = environment(UNSEE_CHECKPOINTS="s3://elsewhere/checkpoints")
    arguments = command("run", "--out", "runs/elsewhere", *ASSIGNMENTS)
    run = subprocess.run(arguments, cwd=directory, env=variables, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.startswith("unsee: s3://elsewhere/checkpoints: there is no bucket")) == (2, True)
    assert not (directory / "runs/elsewhere").exists()


def _identity(model: dict[str, str]) -> dict[str, str]:
    return {"name": model["name"], "version": model["version"]}
