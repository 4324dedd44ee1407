"""Running a step in several processes of this machine, one for each GPU, as if it were one.

The process that calls the step starts them, passes on what the main one tells the tracker, and waits. If one fails or
is killed, it stops the others and raises what the first one died of; if it is itself killed, they notice and end.
Processes meet over a file and talk over the loopback device: no other machine can join.
"""

import inspect
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from unsee.errors import UserError
from unsee.parallel import OthersAreDone, is_main
from unsee.progress import TERMINAL
from unsee.storage.artifact import step_clock, step_started
from unsee.tracking import NoTracker, Tracker

PROCESSES = "UNSEE_PROCESSES"
TIMEOUT = timedelta(days=1)
"""Of waiting for each other: who has failed is known without it."""
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
SECONDS_TO_NOTICE = 1.0
SECONDS_TO_STOP = 3.0

Given = ParamSpec("Given")
Result = TypeVar("Result")


class ProcessFailure(Exception):
    """A process of a step was killed, or failed in a way that cannot be passed on."""


def process_count(device: str = "auto") -> int:
    """How many processes a step runs in: what UNSEE_PROCESSES says, or one for each GPU that it has been given and
    computes on (device: as in `ComputeSettings`).

    Raises:
        UserError: UNSEE_PROCESSES is no positive whole number.
    """
    given = os.environ.get(PROCESSES)
    if not given:
        return 1 if device == "cpu" else max(1, torch.cuda.device_count())
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"{PROCESSES} = {given!r} is no positive whole number; give one, or unset it: one per GPU")
    return int(given)


def in_processes(step: Callable[Given, Result]) -> Callable[Given, Result]:
    """A step that runs in `process_count()` processes, and returns what its main one does.

    Its `tracker` is the main one's alone. Of its `out`, the others get a place that is deleted.
    """

    @wraps(step)
    def launched(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        given = inspect.signature(step).bind(*args, **kwargs).arguments
        device = given["settings"].compute.device if "settings" in given else "auto"
        count = 1 if dist.is_initialized() else process_count(device)
        if count == 1:
            return step(*args, **kwargs)
        tracker = given.pop("tracker")
        with TemporaryDirectory(prefix="unsee-") as scratch:
            team = _Team()
            try:
                team.start(_Task(launched, given, count, Path(scratch), step_started()))
                return team.result(tracker)
            finally:
                team.stop()

    return launched


@dataclass(frozen=True)
class _Task:
    """What every process is to do. function: by its name in its module."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    count: int
    scratch: Path
    started: float


@dataclass(frozen=True)
class _Result:
    """What the main process returns."""

    value: Any


@dataclass(frozen=True)
class _Failure:
    """What a process died of."""

    error: Exception


_Message = _Result | _Failure | Callable[[Tracker], None]
"""What a process says to its parent; the last is something for the tracker."""


def _message(end: Connection) -> _Message | None:
    """The next one; None if the process has ended."""
    try:
        return end.recv()
    except (EOFError, OSError):  # the latter of a process that was killed in the middle of a message
        return None


class _Team:
    """The processes of a step, as their parent sees them. processes: by the end of the pipe that leads to each."""

    def __init__(self) -> None:
        self.processes: dict[Connection, BaseProcess] = {}

    def start(self, task: _Task) -> None:
        context = get_context("spawn")
        for number in range(task.count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(task, number, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes[ours] = process

    def result(self, tracker: Tracker) -> Any:
        """What the main process returns, once all have ended.

        Raises:
            ProcessFailure: one was killed.
            Exception: what the first one that failed raised.
        """
        found, running = None, dict(self.processes)
        while running:
            ready = connection.wait(list(running))
            for end in [end for end in running if end in ready]:
                match _message(end):
                    case None:
                        self._require_success(running.pop(end))
                    case _Result(found):
                        pass
                    case _Failure(error):
                        self._require_no_killed()
                        raise error
                    case told:
                        told(tracker)
        return found

    def _require_no_killed(self) -> None:
        """What others fail of after one was killed is only that. One that failed does not end by itself."""
        ended = connection.wait([process.sentinel for process in self.processes.values()], SECONDS_TO_NOTICE)
        for process in self.processes.values():
            if process.sentinel in ended:
                self._require_success(process)

    def _require_success(self, process: BaseProcess) -> None:
        process.join()
        if process.exitcode:
            number = list(self.processes.values()).index(process) + 1
            raise ProcessFailure(
                f"process {number} of the step's {len(self.processes)} was ended from outside (code {process.exitcode};"
                " -9 is mostly want of memory), and the others with it; give the step more memory, or fewer processes"
            )

    def stop(self) -> None:
        """End all that still run, first by a signal that lets them clean up."""
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_STOP
        for process in self.processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()


class _Told:
    """The main process's tracker: the parent has the real one."""

    def __init__(self, end: Connection):
        self._end = end

    def log_params(self, params: Mapping[str, object]) -> None:
        self._end.send(methodcaller("log_params", params))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._end.send(methodcaller("log_metrics", metrics, step=step))

    def log_artifact(self, path: Path) -> None:
        self._end.send(methodcaller("log_artifact", path))


def _work(task: _Task, number: int, end: Connection) -> None:
    """What a process of a step runs."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and decides
    signal.signal(signal.SIGTERM, _exit)
    try:
        _join(task, number)
        tracker, arguments = _Told(end) if is_main() else NoTracker(), dict(task.arguments)
        if not is_main():
            _fall_silent()
            arguments["out"] = task.scratch / f"{number}"
        with step_clock(task.started):
            found = task.function(**arguments, tracker=tracker)
        if is_main():
            end.send(_Result(found))
    except OthersAreDone:
        pass
    except Exception as error:
        end.send(_Failure(_sendable(error)))
        time.sleep(TIMEOUT.total_seconds())  # to leave now would make the others fail of that
    _leave()


def _join(task: _Task, number: int) -> None:
    """Meet the others; process r computes on GPU r, if there are GPUs."""
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[variable] = LOOPBACK
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    meeting = (task.scratch / "meeting").as_uri()
    dist.init_process_group(init_method=meeting, rank=number, world_size=task.count, timeout=TIMEOUT)


def _fall_silent() -> None:
    """What the main process says is said once."""
    os.environ.pop(TERMINAL, None)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(silence, stream.fileno())


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _leave() -> NoReturn:
    """End at once: a thread of gloo that still lets go of a tensor while Python is taken down aborts the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _sendable(error: Exception) -> Exception:
    """The exception with its traceback as a note, or its words where it cannot be passed on."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = UserError if isinstance(error, UserError) else ProcessFailure
        return kind(str(error) if kind is UserError else f"{type(error).__name__}: {error}")
    return error
