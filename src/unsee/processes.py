"""Processes that were started, also by commands that have ended: known again, and stopped with their children."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

SECONDS_TO_STOP = 20.0
SECONDS_TO_SUSPEND = 2.0
SUSPENDED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def running(known: Mapping[str, float] | None) -> psutil.Process | None:
    """The process that was started, unless it has ended."""
    return next((process for process in session(known) if process.pid == known["pid"]), None) if known else None


def session(known: Mapping[str, float] | None) -> list[psutil.Process]:
    """What runs of a process that was started and of its children: they outlive it if it is killed.

    They are its session, whose number no other process can have as long as one of them runs; thereafter it can.
    """
    if known is None:
        return []
    number = int(known["pid"])
    if psutil.pid_exists(number) and started(psutil.Process(number)) != known["started"]:
        return []
    return [process for process in psutil.process_iter() if _session_of(process) == number and is_alive(process)]


def started(process: psutil.Process) -> float:
    """Seconds from boot until its start: unlike the time of day, they stay the same when the clock is set."""
    return round(process.create_time() - psutil.boot_time(), 2)


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs: one that ended is a zombie until its parent, which may be anything by then, has taken note."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants() -> list[psutil.Process]:
    """Of this process, suspended: none of them is stopped between forking and its child being listed, which would leave
    the child to init. `stop` has them go on."""
    found, this = list[psutil.Process](), psutil.Process()
    while new := [process for process in this.children(recursive=True) if process not in found and is_alive(process)]:
        for process in new:
            _suspend(process)
        found += new
    return found


def _suspend(process: psutil.Process) -> None:
    """Returns when it has stopped, which a process that computes does a little later than it is told, or cannot be."""
    deadline = time.monotonic() + SECONDS_TO_SUSPEND
    with suppress(psutil.Error):
        process.suspend()
        while is_alive(process) and process.status() not in SUSPENDED and time.monotonic() < deadline:
            time.sleep(0.001)


def stop(processes: Sequence[psutil.Process], seconds: float = SECONDS_TO_STOP) -> None:
    """Terminate, then kill after so many seconds; returns when all have ended, or will not within as many again."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in filter(is_alive, processes):
            with suppress(psutil.Error):
                end(process)
                process.resume()
        deadline = time.monotonic() + seconds
        while any(map(is_alive, processes)) and time.monotonic() < deadline:
            time.sleep(0.05)
