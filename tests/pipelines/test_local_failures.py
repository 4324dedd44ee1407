"""What a run leaves when it cannot go on: refused before it starts, failed, or stopped from outside."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
from mlflow import MlflowClient

from unsee.benchmark.schema import Benchmark
from unsee.errors import UserError
from unsee.processes import is_alive
from unsee_pipelines import local
from unsee_pipelines.jobs import Request, unlearn_job


@pytest.fixture
def failing(monkeypatch, tmp_path, database):
    """Makes a run whose first step fails, tracked in a store of its own; returns the reason that was told."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")

    def run(request, before_failing=lambda: None):
        def fail(*_):
            before_failing()
            raise UserError("the step's own reason")

        monkeypatch.setattr(local, "_execute", fail)
        with pytest.raises(UserError) as error:
            local.run(unlearn_job(request, "vkd", 0), tmp_path / "out")
        return str(error.value)

    return run


def parent(tmp_path):
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "unsee"]
    (run,) = client.search_runs([experiment.experiment_id])
    return run


@pytest.mark.parametrize(
    ("forget", "words"),
    [(("P001", "P999"), "--forget names P999, not in benchmark embedded-0"), (("R001",), "R001, real-world in")],
)
def test_people_of_a_generated_benchmark_are_checked_before_anything_runs(forget, words):
    with pytest.raises(UserError, match=words):
        unlearn_job(Request(forget=forget), "vkd", 0)
    assert unlearn_job(Request(forget=("P001",)), "vkd", 0).arguments["forget"] == ["P001"]


def test_a_failed_run_on_a_given_benchmark_is_told_apart_by_its_source(failing, tmp_path, small_benchmark: Benchmark):
    assert failing(Request(benchmark=str(small_benchmark.directory))) == "the step's own reason"
    run = parent(tmp_path)
    assert run.info.status == "FAILED"
    assert run.data.params["benchmark_source"] == str(small_benchmark.directory)
    assert [name for name in run.data.params if name == "benchmark" or name.startswith("benchmark.")] == []


def test_a_tracking_store_that_fails_as_well_does_not_hide_why_the_run_failed(failing, tmp_path):
    store = tmp_path / "mlflow.db"
    reason = failing(Request(), before_failing=lambda: store.write_bytes(b"no database" * 1000))
    assert reason == "the step's own reason"
    assert "could not be closed" in (tmp_path / "out" / "log.txt").read_text()


STEP = """
import signal, sys, time
def stop(number, frame):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("cleaned up")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
time.sleep(60)
"""
RUN = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # though these tests be run under nohup
from kfp.local.subprocess_task_handler import run_local_subprocess
from unsee_pipelines import local
from unsee_pipelines.runners import Processes
with local._stoppable(Processes()):
    run_local_subprocess(["sh", "-c", f"{sys.executable} -c '{sys.argv[2]}' {sys.argv[1]}; true"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_stops_its_step_and_lets_it_clean_up(number, tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path / "trace"), STEP.replace("'", '"')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout.readline() == "started\n"
        steps = psutil.Process(run.pid).children(recursive=True)
        assert len(steps) == 2
        started = time.monotonic()
        run.send_signal(number)
        assert run.wait() == 128 + number
    assert time.monotonic() - started < 20
    assert (tmp_path / "trace").read_text() == "cleaned up"
    assert not any(map(is_alive, steps))


def test_a_run_under_nohup_goes_on_after_the_terminal_is_closed(tmp_path):
    hangup = "os.kill(os.getpid(), signal.SIGHUP)"
    imports = "import os, signal; from unsee_pipelines import local, runners"
    script = f"{imports}\nwith local._stoppable(runners.Processes()): {hangup}; print('on')"
    command = ["nohup", sys.executable, "-c", script]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "on\n")
