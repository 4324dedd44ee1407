"""Processes that all do the same thing to a store at the same moment."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from unsee.errors import UserError
from unsee.requests import turn
from unsee.requests.journal import Ended, Journal


def at_once(rivals: int, act: Callable[[str, str], Any], root: str) -> list[Any]:
    """What act(root, name) returns or raises in each of these processes, "run-0", "run-1", …, in their order."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(rivals), context.SimpleQueue()
    processes = [
        context.Process(target=_act, args=(act, root, number, barrier, results), daemon=True)
        for number in range(rivals)
    ]
    for process in processes:
        process.start()
    found = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(rivals)]


def _act(act: Callable[[str, str], Any], root: str, number: int, barrier: Barrier, results: Any) -> None:
    barrier.wait()
    try:
        found = act(root, f"run-{number}")
    except Exception as error:
        found = repr(error)
    results.put((number, found))


def claims(root: str, run: str) -> list[dict[str, str] | None]:
    """What this run takes on in each of five stores, one after another; None where it is another run's turn."""
    return [_claim(f"{root}/{number}", run) for number in range(5)]


def _claim(root: str, run: str) -> dict[str, str] | None:
    try:
        return turn.claim(root, run)
    except UserError:
        return None


def appends(root: str, run: str) -> None:
    """Five records, one after another."""
    for number in range(5):
        Journal(root).append(lambda _, number=number: [Ended(run=f"{run}-{number}", by="a test")])
