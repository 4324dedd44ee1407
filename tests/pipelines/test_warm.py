"""A step forked from a warm process ends as one that KFP starts, says the same, and leaves the same outputs."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local.subprocess_task_handler import replace_python_executable, run_local_subprocess

from unsee_pipelines.warm import KILLED, Warm, warm

MEGABYTE = 1_000_000


@dsl.component(base_image="none", install_kfp_package=False)
def ending(how: str) -> str:
    import os
    import sys

    print("in", os.environ["PLACE"], sys.argv[:2], flush=True)
    print("aside", file=sys.stderr)
    endings = {
        "leave": lambda: sys.exit(3),
        "leave quietly": lambda: sys.exit(),
        "say why": lambda: sys.exit("because"),
        "fail": lambda: {}["missing"],
        "be killed": lambda: os.kill(os.getpid(), 9),
        "hold": lambda: len(b"x" * 1_500_000_000),
        "start another": lambda: os.waitpid(os.posix_spawn(sys.executable, ["python", "-c", ""], os.environ), 0),
    }
    endings.get(how, str)()
    return how


def command(how: str, directory: Path) -> list[str]:
    """As KFP's local engine puts it together."""
    container = ending.pipeline_spec.deployment_spec["executors"]["exec-ending"]["container"]
    outputs = {
        "outputFile": str(directory / "outputs.json"),
        "parameters": {"Output": {"outputFile": str(directory / "output")}},
    }
    told = json.dumps({"inputs": {"parameterValues": {"how": how}}, "outputs": outputs})
    given = [told if part == "{{$}}" else part for part in container["args"]]
    return replace_python_executable([*container["command"], *given], sys.executable)


@pytest.fixture(scope="module")
def steps() -> Iterator[Warm]:
    with warm() as steps:
        yield steps


@pytest.fixture
def ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str], str]]:
    """What a way of running a step makes of it: exit code, first and last lines printed, outputs."""
    monkeypatch.setenv("PLACE", "here")

    def end(run: Callable[..., int], how: str) -> tuple[int, list[str], str]:
        directory = Path(tempfile.mkdtemp(dir=tmp_path))
        code = run(command(how, directory), {"PLACE": "there"} if how == "there" else None)
        said = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("[KFP")]
        outputs = directory / "outputs.json"
        return code, [*said[:2], *said[-3:]], outputs.read_text() if outputs.exists() else ""

    return end


@pytest.mark.parametrize("how", ["well", "there", "leave", "leave quietly", "say why", "fail", "start another"])
def test_it_ends_as_kfps_own_does(steps: Warm, ended, how: str) -> None:
    assert ended(steps.run, how) == ended(run_local_subprocess, how)


def test_one_that_is_killed_is_told_from_one_that_ends(steps: Warm, ended) -> None:
    code, _, outputs = ended(steps.run, "be killed")
    assert (code, outputs) == (KILLED, "")
    assert ended(steps.run, "leave")[0] == 3


def test_what_the_largest_step_held_is_known(tmp_path: Path) -> None:
    small, large = (
        subprocess.run(measured(how, tmp_path), capture_output=True, check=True) for how in ("well", "hold")
    )
    assert 100 * MEGABYTE < int(small.stdout.split()[-1]) < 1500 * MEGABYTE
    assert 1500 * MEGABYTE < int(large.stdout.split()[-1]) < 4000 * MEGABYTE


def measured(how: str, directory: Path) -> list[str]:
    """A Python that runs one step and prints what its largest one held."""
    script = f"""
from pathlib import Path
import {__name__} as t
from unsee_pipelines.runners import Processes
from unsee_pipelines.warm import warm
with warm() as steps:
    steps.run(t.command({how!r}, Path({str(directory)!r})), {{"PLACE": "here"}})
print(Processes().peak_memory())
"""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}){script}"]
