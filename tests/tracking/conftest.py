"""A real database store, and a real server on a free port of the loopback interface."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(database: str) -> MlflowClient:
    """A database of its own, named by MLFLOW_TRACKING_URI."""
    return MlflowClient()


@pytest.fixture(scope="session")
def server_address(empty_database: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running `mlflow server` that keeps artifacts itself."""
    directory = tmp_path_factory.mktemp("server")
    (directory / "server.db").write_bytes(empty_database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'server.db'}"]
    command += ["--artifacts-destination", str(directory / "server-artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def server(server_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The same, named by MLFLOW_TRACKING_URI, without any experiment or run of another test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_address)
    client = MlflowClient()
    yield client
    for experiment in client.search_experiments(filter_string="name != 'Default'"):
        client.rename_experiment(experiment.experiment_id, f"ended {experiment.experiment_id}")
        client.delete_experiment(experiment.experiment_id)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server did not become healthy (exit code {process.poll()})")
