"""Where the steps of a run on this machine run. Processes of this Python are here, containers in containers.py."""

import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol
from unittest.mock import patch

import torch
from kfp import local
from kfp.local import subprocess_task_handler

from unsee.processes import descendants, stop
from unsee.steps.component import STOPPED
from unsee_pipelines.warm import warm

SECONDS_TO_STOP = 30


class Runner(Protocol):
    """What a run needs to know of the place where its steps run."""

    def code_digest(self, digest: str) -> str:
        """The identity of the code that steps run, where `digest` is that of the code here."""

    def of_kfp(self, root: Path, writes: Sequence[Path], reads: Sequence[Path]) -> AbstractContextManager[Any]:
        """KFP's runner, to be used inside of the block; its steps get the environment as it is now.

        Args:
            root: where their artifacts go, beside those of earlier runs, which they may read.
            writes, reads: where else they write, and read.

        Raises:
            UserError: a directory that they could not reach.
        """

    def skip(self, reason: str) -> None:
        """Have steps that start from now on end at once, for this reason."""

    def stop(self) -> None:
        """End the steps that run; they have SECONDS_TO_STOP to clean up."""

    def peak_memory(self) -> int | None:
        """Bytes that the largest step held; None if nobody knows."""


def named(name: Literal["process", "docker"]) -> Callable[[], Runner]:
    """What makes the runner of that name, or raises UserError where it cannot be used."""
    if name == "process":
        return Processes
    from unsee_pipelines.containers import Containers

    return Containers


class Processes:
    """Steps are processes that descend from this one, with its Python."""

    def code_digest(self, digest: str) -> str:
        """The same code."""
        return digest

    @contextmanager
    def of_kfp(self, root: Path, writes: Sequence[Path], reads: Sequence[Path]) -> Iterator[local.SubprocessRunner]:
        """They reach all that this process reaches, and inherit its environment.

        KFP knows no runner but its own, so that what starts a process for it is replaced while the block runs: on Linux
        and without a GPU, where forks are safe with all that is imported.
        """
        with ExitStack() as block:
            if sys.platform == "linux" and not torch.accelerator.is_available():
                steps = block.enter_context(warm())
                block.enter_context(patch.object(subprocess_task_handler, "run_local_subprocess", steps.run))
            yield local.SubprocessRunner(use_venv=False)

    def skip(self, reason: str) -> None:
        """By the environment that they inherit."""
        os.environ[STOPPED] = reason

    def stop(self) -> None:
        """All that descends from this process. How it ended is left for KFP to hear: it takes what it cannot hear for
        success."""
        stop(descendants(), SECONDS_TO_STOP)

    def peak_memory(self) -> int:
        """Of all that descended from this process and has ended, what steps are forked from included."""
        bytes_each = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * bytes_each
