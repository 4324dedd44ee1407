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
from tempfile import TemporaryDirectory
from typing import NoReturn

IMPORTED = (
    "kfp.dsl.executor_main",
    "mlflow",
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


class Warm:
    """Runs steps as forks of the process behind `requests`."""

    def __init__(self, requests: socket.socket):
        self._requests = requests

    def run(self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
        """Do what KFP's command of a lightweight component does, and print what it prints.

        Args:
            full_command: sh, -ec, script, the component's source, its arguments.
            env_vars: in addition to the environment as it is now.

        Returns:
            The step's exit code; KILLED if it could not tell.
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
                return ours.recv()
            except (EOFError, ConnectionError):
                return KILLED


@contextmanager
def warm() -> Iterator[Warm]:
    """The process from which steps are forked, until the block is left. It ends with this one."""
    ours, theirs = socket.socketpair()
    end = theirs.fileno()
    with subprocess.Popen([sys.executable, "-m", __name__, str(end)], pass_fds=[end]) as server, ours:
        theirs.close()
        try:
            yield Warm(ours)
        finally:
            server.terminate()


def _serve(requests: socket.socket) -> None:
    """Fork for every request, until nobody can send one. Children tell themselves how they end."""
    atexit.register(_leave)
    terminated = signal.signal(signal.SIGTERM, _end)
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    while descriptors := socket.recv_fds(requests, 1, 2)[1]:
        _take_note(os.WNOHANG)
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, terminated)
            signal.signal(signal.SIGINT, interrupted)
            requests.close()
            _work(*map(Connection, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _end(*_: object) -> None:
    _take_note(0)
    os._exit(0)


def _take_note(options: int) -> None:
    """Of forks that have ended: only so is their memory counted as that of children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _work(caller: Connection, output: Connection) -> NoReturn:
    source, arguments, environment = caller.recv()
    os.environ.clear()
    os.environ.update(environment, _KFP_RUNTIME="true")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output.fileno(), stream.fileno())
    output.close()
    code: object = 1
    try:
        with TemporaryDirectory() as directory:
            module = Path(directory, "ephemeral_component.py")
            module.write_text(source)
            _execute(["--component_module_path", str(module), *arguments])
        code = 0
    except SystemExit as left:
        code = left.code
        raise
    finally:
        caller.send(code if isinstance(code, int) else 1)
    sys.exit()


def _leave() -> NoReturn:
    """Registered first, so that all else that is to happen at exit has: to take so many modules down takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _execute(arguments: Sequence[str]) -> None:
    """By KFP's executor: in a Python of its own where there is a GPU, since no fork may use one that was looked at."""
    import torch
    from kfp.dsl import executor_main

    if torch.accelerator.is_available():
        sys.exit(subprocess.run([sys.executable, "-m", executor_main.__name__, *arguments]).returncode)
    sys.argv = [executor_main.__name__, *arguments]
    executor_main.executor_main()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
