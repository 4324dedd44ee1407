"""Steps in containers of their own find their parent by environment variables alone, on a real server."""

import os
import subprocess
import sys

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

STEP = """
import sys
from unsee.tracking.mlflow import log_to_parent, step_run
with step_run(sys.argv[1]) as tracker:
    tracker.log_metrics({"loss": 1.0}, step=3)
log_to_parent({f"{sys.argv[1]}/accuracy": 0.5}, {"method": "vkd", "seed": 0})
"""
FINISH = "from unsee.tracking.mlflow import finish_tagged_parent; finish_tagged_parent(succeeded=True)"
STEPS = ("build-vanilla", "build-retrained", "evaluate")


def container(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A process that knows the server, and what KFP tells it, and nothing else of MLflow."""
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KFP_"))}
    environment = {**theirs, "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"], **variables}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True)


def all_runs(client: MlflowClient) -> dict[str, Run]:
    """Every run of the server that is there once, by its name."""
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = [run.info.run_name for run in found]
    assert len(names) == len(set(names)), names
    return dict(zip(names, found, strict=True))


def test_steps_that_start_together_are_nested_in_one_parent_which_the_last_step_closes(server: MlflowClient) -> None:
    started = [container(STEP, name, KFP_RUN_ID="0d5c9a6e") for name in STEPS]
    assert [process.wait() for process in started] == [0, 0, 0]
    runs = all_runs(server)
    parent = runs.pop("0d5c9a6e")
    assert parent.info.status == "RUNNING"
    assert parent.data.metrics == {f"{name}/accuracy": 0.5 for name in STEPS}
    assert parent.data.params == {"method": "vkd", "seed": "0"}
    assert set(runs) == set(STEPS)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert container(FINISH, KFP_RUN_ID="0d5c9a6e").wait() == 0
    assert server.get_run(parent.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_a_run_that_kfp_s_plugin_made_for_a_step_is_the_step_s_and_its_parent_is_left_to_kfp(
    server: MlflowClient, in_a_loop: bool
) -> None:
    """With injectUserEnvVars, MLFLOW_RUN_ID is a run nested in the pipeline's, or in that of a loop (KEP 12862)."""
    experiment = server.create_experiment("KFP-Default")
    parent = server.create_run(experiment, run_name="nightly", tags={"kfp.pipeline_run_id": "0d5c9a6e"}).info.run_id
    around = parent
    if in_a_loop:
        around = server.create_run(experiment, run_name="loop", tags={"mlflow.parentRunId": parent}).info.run_id
    own = server.create_run(experiment, run_name="unlearn-task", tags={"mlflow.parentRunId": around}).info.run_id
    variables = {"MLFLOW_RUN_ID": own, "MLFLOW_EXPERIMENT_ID": experiment, "KFP_RUN_ID": "0d5c9a6e"}
    assert container(STEP, "unlearn", **variables).wait() == 0
    assert container(FINISH, **variables).wait() == 0
    runs = all_runs(server)
    assert set(runs) == {"nightly", "unlearn-task", *(["loop"] if in_a_loop else [])}
    assert runs["unlearn-task"].data.metrics == {"loss": 1.0}
    assert runs["unlearn-task"].info.status == "FINISHED"
    assert runs["nightly"].data.metrics == {"unlearn/accuracy": 0.5}
    assert runs["nightly"].info.status == "RUNNING"


def test_a_parent_that_was_given_is_not_closed_by_a_step(server: MlflowClient) -> None:
    experiment = server.create_experiment("given")
    parent = server.create_run(experiment, run_name="given").info.run_id
    assert container(STEP, "unlearn", MLFLOW_RUN_ID=parent).wait() == 0
    assert container(FINISH, MLFLOW_RUN_ID=parent).wait() == 0
    runs = all_runs(server)
    assert runs["unlearn"].data.tags["mlflow.parentRunId"] == parent
    assert runs["unlearn"].info.experiment_id == experiment
    assert runs["given"].info.status == "RUNNING"
    assert runs["given"].data.metrics == {"unlearn/accuracy": 0.5}
