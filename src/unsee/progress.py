"""Progress of long work: a bar on a terminal, otherwise a line every ten seconds.

Pipeline steps run in processes whose output is captured. `unsee run` names its terminal in UNSEE_TTY, and the step
draws its bar there; without a terminal, it shows the step's lines that begin with MARK.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from tqdm import tqdm

TERMINAL = "UNSEE_TTY"
MARK = "» "
SECONDS_BETWEEN_LINES = 10.0
WIDTH_IF_UNKNOWN = 80

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Pass the items on while showing how far it is; `total` defaults to the length of a sized iterable."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with _terminal() as terminal:
        if terminal is None:
            yield from _with_lines(iterable, description, total)
        else:
            width = os.get_terminal_size(terminal.fileno()).columns or WIDTH_IF_UNKNOWN
            yield from tqdm(iterable, desc=description, total=total, file=terminal, leave=False, ncols=width)


def say(text: str) -> None:
    """A line for the person at the terminal, from wherever the work runs."""
    print(f"{MARK}{text}", flush=True)


@contextmanager
def _terminal() -> Iterator[TextIO | None]:
    """The terminal to draw on: the one `unsee run` named, or standard error if it is one."""
    name = os.environ.get(TERMINAL)
    if name and os.access(name, os.W_OK):
        with Path(name).open("w") as terminal:
            yield terminal
    else:
        yield sys.stderr if sys.stderr.isatty() else None


def _with_lines(iterable: Iterable[Item], description: str, total: int | None) -> Iterator[Item]:
    started = said = time.monotonic()
    for done, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES:
            said = now
            say(_line(description, done, total, now - started))


def _line(description: str, done: int, total: int | None, seconds: float) -> str:
    if not total:
        return f"{description} {done}, {seconds:.0f} s"
    left = seconds / done * (total - done)
    return f"{description} {done}/{total}, {seconds:.0f} s, about {left:.0f} s left"
