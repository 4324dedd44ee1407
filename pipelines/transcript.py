"""What KFP's local engine prints, made readable: everything goes to a log file, the person sees steps and progress."""

import io
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TextIO

from unsee.progress import MARK
from unsee.steps.component import FAILURE_MARK, Failure

COLOUR = re.compile(r"\x1b\[\d+m")
STARTED = re.compile(r"Executing task '([\w-]+)'")
FINISHED = re.compile(r"Task '([\w-]+)' finished with status (SUCCESS|FAILURE)")
CACHED = re.compile(r"Task ([\w-]+) cache hit")


@dataclass
class Transcript(io.TextIOBase):
    """A stand-in for standard output that logs every line and tells the terminal the ones that matter.

    `names` gives the steps' names by their task names, `log` takes everything, `terminal` takes the readable lines.
    After the run, `seconds` holds how long each step took (0 when served from the cache), in order.
    """

    names: Mapping[str, str]
    log: TextIO
    terminal: TextIO
    seconds: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    failure: Failure | None = None
    failed_step: str | None = None

    def __post_init__(self) -> None:
        self._line = ""
        self._started = 0.0

    def write(self, text: str) -> int:
        """Take text in pieces, act on whole lines."""
        self.log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._read(COLOUR.sub("", line).strip())
        return len(text)

    def flush(self) -> None:
        """Bring the log up to date on disk."""
        self.log.flush()

    def _read(self, line: str) -> None:
        if line.startswith(MARK):
            self._say(f"        {line.removeprefix(MARK)}")
        elif line.startswith(FAILURE_MARK):
            self.failure = Failure.model_validate_json(line.removeprefix(FAILURE_MARK))
        elif match := STARTED.search(line):
            self._start(self.names[match[1]])
        elif match := FINISHED.search(line):
            self._finish(self.names[match[1]], succeeded=match[2] == "SUCCESS")
        elif match := CACHED.search(line):
            self._serve(self.names[match[1]])

    def _start(self, step: str) -> None:
        self._started = time.monotonic()
        self.seconds[step] = 0.0
        self._say(f"{self._place(step)} {step} …")

    def _finish(self, step: str, succeeded: bool) -> None:
        self.seconds[step] = time.monotonic() - self._started
        if not succeeded and self.failed_step is None:
            self.failed_step = step
        if succeeded or self.failed_step == step:
            self._say(f"{self._place(step)} {step} {'done' if succeeded else 'FAILED'}, {self.seconds[step]:.1f} s")

    def _serve(self, step: str) -> None:
        self.seconds[step] = 0.0
        self.cached.add(step)
        self._say(f"{self._place(step)} {step} cached")

    def _place(self, step: str) -> str:
        position = list(self.seconds).index(step) + 1
        return f"[{position:2}/{len(self.names)}]"

    def _say(self, text: str) -> None:
        print(text, file=self.terminal, flush=True)


@contextmanager
def everything_into(transcript: Transcript) -> Iterator[None]:
    """Send what this process prints, logs and warns to the transcript."""
    root = logging.getLogger()
    level = root.level
    handler = logging.StreamHandler(transcript)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        with redirect_stdout(transcript):
            yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
