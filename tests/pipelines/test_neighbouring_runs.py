"""Runs beside each other share a cache and a tracking store, also when they are the first and start at once."""

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from reduced import environment

SCRIPT = """
import sys
from pathlib import Path
from unsee_pipelines import local
from unsee_pipelines.jobs import Request, unlearn_job

local._execute = lambda *_: None
local.run(unlearn_job(Request(), "vkd", 0), Path(sys.argv[1]))
"""


def test_two_that_start_at_once_are_both_tracked(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SCRIPT, str(tmp_path / name)] for name in ("a", "b")]
    runs = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for command in commands]
    assert [(run.communicate()[1], run.returncode)[1] for run in runs] == [0, 0]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "unsee"]
    tracked = client.search_runs([experiment.experiment_id])
    assert {(run.info.run_name, run.info.status) for run in tracked} == {
        ("vkd a", "FINISHED"),
        ("vkd b", "FINISHED"),
    }
