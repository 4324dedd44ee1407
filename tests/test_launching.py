"""A step in several processes is one step: one result, one tracker, one failure, and one end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import launched_work
import psutil
import pytest
from tiny_run import Recorder

from unsee.errors import UserError
from unsee.launching import PROCESSES, ProcessFailure, process_count
from unsee.tracking import NoTracker

SECONDS_TO_START = 120
SECONDS_TO_END = 20


@pytest.fixture(autouse=True)
def two(monkeypatch):
    monkeypatch.setenv(PROCESSES, "2")


def test_a_step_runs_in_one_process_per_gpu_unless_told_otherwise(monkeypatch):
    assert process_count() == 2
    monkeypatch.delenv(PROCESSES)
    for gpus, processes in ((0, 1), (1, 1), (4, 4)):
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        assert process_count() == processes


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_an_impossible_number_of_processes_is_told(monkeypatch, value):
    monkeypatch.setenv(PROCESSES, value)
    with pytest.raises(UserError, match=f"{PROCESSES} = '{value}' is no positive whole number"):
        process_count()


def test_the_main_process_alone_returns_writes_and_tracks(tmp_path):
    tracker = Recorder()
    found = launched_work.telling(tmp_path / "out", tracker)
    assert found.pop("pid") != os.getpid()
    assert found == {"processes": 2, "told": "from 0"}
    assert (tmp_path / "out" / "name.txt").read_text() == "0"
    assert (tracker.params, tracker.metrics, tracker.artifacts) == ({"rank": 0}, [(3, {"loss": 0.5})], ["name.txt"])


def test_one_process_is_this_one(monkeypatch, tmp_path):
    monkeypatch.setenv(PROCESSES, "1")
    assert launched_work.telling(tmp_path / "out", NoTracker()) == {
        "processes": 1, "told": "from 0", "pid": os.getpid()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("how", "raised", "words"),
    [
        ("user", UserError, "mend it"),
        ("killed", ProcessFailure, "process 2 of the step's 2 was ended from outside"),
    ],
)
def test_what_one_process_fails_of_ends_the_step_and_is_what_is_told(how, raised, words, tmp_path):
    before = set(psutil.Process().children())
    with pytest.raises(raised) as failure:
        launched_work.failing(how, tmp_path / "out", NoTracker())
    assert str(failure.value).startswith(words)
    left = [" ".join(child.cmdline()) for child in set(psutil.Process().children()) - before]
    assert not [command for command in left if "multiprocessing.resource_tracker" not in command]


def started(pids: Path) -> subprocess.Popen:
    """A step whose two processes both run."""
    process = subprocess.Popen([sys.executable, launched_work.__file__, str(pids)])
    deadline = time.monotonic() + SECONDS_TO_START
    while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_step_that_is_stopped_leaves_no_process_behind(end, tmp_path):
    process = started(tmp_path)
    workers = [psutil.Process(int(file.name)) for file in tmp_path.iterdir()]
    assert len(workers) == 2
    getattr(process, end)()
    process.wait()
    assert psutil.wait_procs(workers, timeout=SECONDS_TO_END)[1] == []
