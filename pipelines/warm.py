"""Steps as forks of one process that has imported what they import, which is most of what a small step does."""

import atexit
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import NoReturn

from kfp.dsl import executor_main

IMPORTED = (
    "unsee.tracking.mlflow",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
    "unsee.steps.build_vanilla",
    "unsee.steps.evaluate",
    "unsee.steps.relearn_attack",
    "unsee.steps.report",
    "unsee.steps.unlearn",
)
KILLED = -signal.SIGKILL
RUNTIME = "_KFP_RUNTIME"
"""Tells KFP that it need not import what makes pipelines."""


class Warm:
    """Runs steps as forks of the process behind `requests`.

    They get the environment as it is when they start, but what libraries read of it while they are imported.
    """

    def __init__(self, requests: socket.socket):
        self._requests = requests

    def run(self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
        """Do what KFP's command of a lightweight component does, and print what it prints.

        Args:
            full_command: sh, -ec, script, the component's source, its arguments.
            env_vars: in addition to the environment as it is now.

        Returns:
            0 if the step succeeded; else what it ended with, KILLED if it could not tell.
        """
        _sh, _options, _script, source, *arguments = full_command
        ours, theirs = Pipe()
        printed, output = Pipe(duplex=False)
        with ours, printed:
            try:
                with theirs, output:
                    socket.send_fds(self._requests, [b"."], [theirs.fileno(), output.fileno()])
                ours.send((source, arguments, {**os.environ, **(env_vars or {})}))
                with open(printed.fileno(), errors="replace", closefd=False) as lines:
                    for line in lines:
                        print(line, end="")
                    print("\n")  # as KFP does: a last line may have no end
                return ours.recv()
            except (EOFError, ConnectionError):
                return KILLED


@contextmanager
def warm() -> Iterator[Warm]:
    """The process from which steps are forked, until the block is left. It ends with this one."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    environment = {**os.environ, RUNTIME: "true"}
    with (
        subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdout=DEVNULL, stderr=DEVNULL
        ) as server,
        ours,
    ):
        theirs.close()
        try:
            yield Warm(ours)
        finally:
            server.terminate()


def _serve(requests: socket.socket) -> None:
    """Fork for every request, until nobody can send one. Forks tell who asked how they end."""
    atexit.register(_leave)
    terminated = signal.signal(signal.SIGTERM, _end)
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        with suppress(Exception):  # the step that needs it will say so
            importlib.import_module(name)
    gc.freeze()
    while descriptors := socket.recv_fds(requests, 1, 2)[1]:
        _reap(os.WNOHANG)
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, terminated)
            signal.signal(signal.SIGINT, interrupted)
            requests.close()
            _work(*map(Connection, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _end(*_: object) -> None:
    _reap(0)
    os._exit(0)


def _reap(options: int) -> None:
    """Take note of forks that have ended: only so is their memory counted as that of children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _work(caller: Connection, output: Connection) -> NoReturn:
    source, arguments, environment = caller.recv()
    os.environ.clear()
    os.environ.update(environment, **{RUNTIME: "true"})
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output.fileno(), stream.fileno())
    output.close()
    code: object = 1
    try:
        with TemporaryDirectory() as directory:
            module = Path(directory, "ephemeral_component.py")
            module.write_text(source)
            sys.argv = [executor_main.__file__, "--component_module_path", str(module), *arguments]
            executor_main.executor_main()
        code = 0
    except SystemExit as left:
        code = left.code or 0
        raise
    finally:
        caller.send(code if isinstance(code, int) else 1)
    sys.exit()


def _leave() -> NoReturn:
    """After what libraries do at exit: to take so many modules down as well takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
