"""Real servers on this machine: an S3 object store (SeaweedFS), and an MLflow server that keeps its artifacts in it.

Both listen on the loopback interface alone, and send nothing anywhere else. All they keep lies below one directory:
data, logs, `stack.json` (ports and processes), and `stack.env` (addresses and credentials, for its owner's eyes only),
which a shell can source.
"""

import json
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from unsee.errors import UserError
from unsee.locks import locked
from unsee.processes import is_alive, running, session, started, stop
from unsee.stack.servers import BUCKET, SERVERS, Server, free_ports, is_free, mlflow, ports_of_s3, seaweedfs
from unsee.storage.artifact import write_json

SECONDS_TO_START = 60.0
SECONDS_TO_LET_GO = 3.0
"""A server that has just ended may hold its ports for a moment, on a busy machine."""
ENVIRONMENT = "stack.env"


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
            state = self._state() or {"ports": free_ports(), "processes": {}}
            self._write_environment(state["ports"])
            for server in (server for server in self._servers(state["ports"]) if server.name in names):
                known = state["processes"].get(server.name)
                process = running(known)
                if process is None:
                    stop(session(known))
                    self._require_free(server.name, state["ports"])
                    process = self._start(server)
                    state["processes"][server.name] = {"pid": process.pid, "started": started(process)}
                    write_json(self.directory / "stack.json", state)
                self._wait(server, process)

    def down(self) -> list[str]:
        """Stop what `up` started, in the opposite order, and nothing else; returns the names of the stopped."""
        if self._state() is None:
            return []
        with self._locked():
            state = self._state() or {}
            found = {name: session(state["processes"].get(name)) for name in reversed(SERVERS)}
            stopped = {name: processes for name, processes in found.items() if processes}
            for processes in stopped.values():
                stop(processes)
            write_json(self.directory / "stack.json", {**state, "processes": {}})
        return list(stopped)

    def status(self) -> dict[str, tuple[str, str]]:
        """Each server's state (running, not answering or stopped) and address; empty before the first `up`."""
        state = self._state()
        if state is None:
            return {}
        found = {}
        for server in self._servers(state["ports"]):
            alive = running(state["processes"].get(server.name)) is not None
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

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.directory / "lock")

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
        needed = [ports["mlflow"]] if server == "mlflow" else ports_of_s3(ports)
        deadline = time.monotonic() + SECONDS_TO_LET_GO
        while taken := [port for port in needed if not is_free(port)]:
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
            dead = not is_alive(process)
            if dead or time.monotonic() > deadline:
                *_, last = ["nothing", *self._log(server).read_text(errors="replace").splitlines()]
                raise UserError(
                    f"{server.name} {'ended' if dead else 'is not ready yet'}; its last words in {self._log(server)} "
                    f"are {last[:300]!r}"
                )
            time.sleep(0.1)

    def _log(self, server: Server) -> Path:
        return self.directory / f"{server.name}.log"


def _write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; readers see the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)
