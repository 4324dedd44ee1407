"""A loop that is stopped starts nothing more, even where no step was at work when the signal came."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl

from unsee_pipelines import local
from unsee_pipelines.engine import step_names
from unsee_pipelines.runners import Processes
from unsee_pipelines.transcript import Transcript, everything_into


@dsl.component(base_image="none", install_kfp_package=False)
def work(number: int, traces: str):
    import pathlib
    import time

    time.sleep(600 * number)
    (pathlib.Path(traces) / str(number)).touch()


@dsl.pipeline
def looping(numbers: list[int], traces: str):
    with dsl.ParallelFor(numbers, parallelism=1) as number:
        work(number=number, traces=traces)


def execute(directory: Path, sent: int) -> None:
    """Run it as `unsee compare` does; this process is sent the signal between the first step and the second."""

    def left_all(_task: str) -> bool:
        os.kill(os.getpid(), sent)
        return True

    signal.signal(sent, signal.default_int_handler)  # though these tests be run in the background
    place, runner = local.Workplace(directory / "out"), Processes()
    place.cache.mkdir(parents=True)
    names = step_names(looping.pipeline_spec)
    transcript = Transcript(names, io.StringIO(), io.StringIO(), lambda step: None, len(names), left_all)
    arguments = {"numbers": [0, 1, 2, 3], "traces": str(directory)}
    with everything_into(transcript), local._stoppable(runner), runner.of_kfp(directory, [], []) as of_kfp:
        local._execute(looping.pipeline_spec, arguments, directory / "artifacts", place, transcript, of_kfp)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_between_two_steps_of_a_loop_stops_the_loop(sent: signal.Signals, tmp_path: Path) -> None:
    script = f"from pathlib import Path; import {__name__} as t; t.execute(Path({str(tmp_path)!r}), {sent.value})"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 128 + sent, run.stderr
    assert [each.name for each in tmp_path.glob("[0-9]")] == ["0"]
