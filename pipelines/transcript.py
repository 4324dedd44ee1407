"""What KFP's local engine prints, made readable: everything goes to a log file, the person sees steps and progress."""

import io
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
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

    `names` gives the steps' names by their task names, `log` takes everything, `terminal` takes the readable lines,
    `on_failure` hears the name of the first step that fails, `steps` is how many will run, `left_all` tells whether a
    task that is said to have succeeded left its outputs; without them it failed. After the run, `seconds`
    holds how long each step took (0 when served from the cache; the sum where it runs in a loop), in order; after a
    failure, `failure` what the step told about it, if it could, and `last_words` its last line.
    """

    names: Mapping[str, str]
    log: TextIO
    terminal: TextIO
    on_failure: Callable[[str], None]
    steps: int
    left_all: Callable[[str], bool]
    seconds: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    failure: Failure | None = None
    failed_step: str | None = None
    last_words: str = ""

    def __post_init__(self) -> None:
        self._line = ""
        self._started = 0.0
        self._number = 0

    def write(self, text: str) -> int:
        """Take text in pieces, act on whole lines."""
        self.log.write(COLOUR.sub("", text))
        *lines, self._line = (self._line + COLOUR.sub("", text)).split("\n")
        for line in lines:
            self._read(line.strip())
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
            self._finish(match[1], succeeded=match[2] == "SUCCESS")
        elif match := CACHED.search(line):
            self._serve(self.names[match[1]])
        elif line and self.failed_step is None:
            self.last_words = line

    def _start(self, step: str) -> None:
        self._started = time.monotonic()
        self._number += 1
        self._say(f"{self._place} {step} …")

    def _finish(self, task: str, succeeded: bool) -> None:
        step = self.names[task]
        if succeeded and not self.left_all(task):
            succeeded, self.last_words = False, f"{self.last_words} (without its outputs)"
        seconds = time.monotonic() - self._started
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds
        self._say(f"{self._place} {step} {'done' if succeeded else 'FAILED'}, {seconds:.1f} s")
        if not succeeded and self.failed_step is None:
            self.failed_step = step
            self.on_failure(step)

    def _serve(self, step: str) -> None:
        self._number += 1
        self.seconds.setdefault(step, 0.0)
        self.cached.add(step)
        self._say(f"{self._place} {step} cached")

    @property
    def _place(self) -> str:
        return f"[{self._number:{len(str(self.steps))}}/{self.steps}]"

    def _say(self, text: str) -> None:
        """Not by `print`, which KFP replaces while a step runs. Steps after a failed one are not worth a line."""
        if self.failed_step is None:
            self.terminal.write(f"{text}\n")
            self.terminal.flush()


@contextmanager
def everything_into(transcript: Transcript) -> Iterator[None]:
    """Send what this process prints, logs and warns to the transcript, and nowhere else."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers
    root.handlers = [logging.StreamHandler(transcript)]
    root.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(), redirect_stdout(transcript), redirect_stderr(transcript):
            warnings.filterwarnings("ignore", module=r"kfp\.local")
            yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
