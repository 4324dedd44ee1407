"""A real proxy in front of the S3 server, which injects faults."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import FAULTS
from made_artifacts import make


@pytest.fixture
def inject(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """inject(fault, …): from now on, requests go through a proxy that does this to them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "faults.json"
    file.write_text("[]")
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port), "--threaded"]
    command += ["--num-workers", "1", "--num-acceptors", "1", "--log-level", "ERROR", "--plugins", "faults.Faults"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), FAULTS: str(file)}
    proxy = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    wait_for(port)
    yield lambda *faults: file.write_text(json.dumps(faults))
    proxy.terminate()
    proxy.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An artifact with small files, an empty one, names that need quoting, and one of four parts."""
    return make(tmp_path / "model")


@pytest.fixture
def small_disk(tmp_path):
    """A file system that holds 256 kB. CI must be able to mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        assert not os.environ.get("CI"), f"these tests must run in CI: {mounted.stderr}"
        pytest.skip("mounting a small file system needs root")
    yield disk  # tensors read from it keep it busy: unmounted lazily
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
