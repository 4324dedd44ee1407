"""The continual DAG: what KFP will see of it, and real runs of it."""

import json
import re

import pytest
import yaml
from mlflow import MlflowClient
from reduced import REDUCED
from typer.testing import CliRunner

from unsee.cli import app
from unsee.requests.journal import Journal
from unsee.requests.turn import Turn
from unsee_pipelines.compile import COMPILED

OUTSIDE = {"claim-requests", "match-requests", "answer-requests", "answer-requests-2", "finish"}


@pytest.fixture(scope="module")
def specification():
    return next(yaml.safe_load_all((COMPILED / "continual.yaml").read_text()))


@pytest.fixture(scope="module")
def dags(specification):
    """The tasks of every DAG by name; the DAG of a condition has the condition's name."""
    inner = {name: c["dag"]["tasks"] for name, c in specification["components"].items() if "dag" in c}
    return {"root": specification["root"]["dag"]["tasks"], **inner}


@pytest.fixture(scope="module")
def steps(specification, dags):
    """Every task that is a container, by name."""
    tasks = {name: task for dag in dags.values() for name, task in dag.items()}
    return {n: t for n, t in tasks.items() if "dag" not in specification["components"][t["componentRef"]["name"]]}


def below(specification, tasks):
    """The names of all steps in these tasks and in those of the conditions among them."""
    found = set()
    for name, task in tasks.items():
        dag = specification["components"][task["componentRef"]["name"]].get("dag")
        found |= below(specification, dag["tasks"]) if dag else {name}
    return found


def conditions(dags):
    """Condition -> its component."""
    found = [t for tasks in dags.values() for t in tasks.values() if "condition" in t.get("triggerPolicy", {})]
    return {" ".join(task["triggerPolicy"]["condition"].split()): task["componentRef"]["name"] for task in found}


def test_without_open_requests_only_the_claim_runs(specification, dags, steps):
    name = conditions(dags)["int(inputs.parameter_values['pipelinechannel--claim-requests-Output']) > 0"]
    assert set(steps) - below(specification, dags[name]) == {"claim-requests", "finish"}


def test_without_people_to_forget_nothing_is_trained(specification, dags, steps):
    name = conditions(dags)["int(inputs.parameter_values['pipelinechannel--match-requests-people']) > 0"]
    before = {"claim-requests", "resolve-settings", "prepare-benchmark", "match-requests", "finish"}
    assert set(steps) - below(specification, dags[name]) == before


def test_a_reference_is_built_only_if_asked_for_and_one_of_two_steps_answers(specification, dags):
    inside = {
        condition: below(specification, dags[name])
        for condition, name in conditions(dags).items()
        if "reference" in condition
    }
    assert inside == {
        "inputs.parameter_values['pipelinechannel--reference'] == true": {
            "build-retrained", "evaluate-3", "answer-requests",
        },
        "!(inputs.parameter_values['pipelinechannel--reference'] == true)": {"answer-requests-2"},
    }  # fmt: skip


def test_what_talks_to_the_store_is_never_cached_and_all_else_is(steps):
    cached = {name for name, task in steps.items() if task["cachingOptions"].get("enableCache")}
    assert set(steps) - cached == OUTSIDE


def test_finish_runs_however_the_others_end_and_ends_the_turn(dags):
    finish = dags["root"]["finish"]
    assert finish["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert finish["inputs"]["parameters"]["requests"]["runtimeValue"]["constant"] is True


def test_every_model_starts_from_vanilla_and_everybody_who_asked(steps):
    for name in ("unlearn", "evaluate", "evaluate-2", "collect-statistics"):
        given = steps[name]["inputs"]["parameters"]["forget"]
        assert given == {"componentInputParameter": "pipelinechannel--match-requests-forget"}
    vanilla = steps["unlearn"]["inputs"]["artifacts"]["vanilla"]["taskOutputArtifact"]
    assert (vanilla["producerTask"], steps["unlearn"]["inputs"]["artifacts"].get("retrained")) == (
        "build-vanilla",
        None,
    )


def test_every_step_retries_and_knows_the_run(specification, steps):
    assert {task["retryPolicy"]["maxRetryCount"] for task in steps.values()} == {3}
    platform = list(yaml.safe_load_all((COMPILED / "continual.yaml").read_text()))[1]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == specification["deploymentSpec"]["executors"].keys()
    assert all("KFP_RUN_ID" in json.dumps(executor) for executor in executors.values())


class Place:
    """A store, and the command line over it."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.root = folder, (folder / "store").as_uri()
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("UNSEE_STORE", self.root)

    def unsee(self, *arguments):
        found = CliRunner().invoke(app, ["requests", *arguments], catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.output

    def answer(self, out, *settings):
        given = [part for setting in (*REDUCED, *settings) for part in ("--set", setting)]
        return self.unsee("answer", "--out", str(self.folder / out), *given)


@pytest.fixture
def place(tmp_path, monkeypatch, empty_database):
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return Place(tmp_path, monkeypatch)


def test_without_open_requests_a_run_ends_at_once_and_changes_nothing(place):
    said = place.answer("first")
    assert "no open requests" in said
    assert Journal(place.root).read() == []
    assert re.findall(r"(\S+) done", said) == ["claim-requests", "finish"]
    assert not (place.folder / "store" / "model").exists()


@pytest.mark.long
def test_requests_are_answered_one_after_another_on_this_machine(place):
    place.unsee("add", "--id", "one", "--entities", "P001")
    assert "one\thonoured" in place.answer("first")
    client = MlflowClient(tracking_uri=f"sqlite:///{place.folder / 'mlflow.db'}")
    first = client.get_model_version_by_alias("unsee-embedded", "champion")
    photograph = next((place.folder / ".unsee").glob("artifacts/*/*/prepare-benchmark/benchmark/images/P002/00.png"))
    place.unsee("add", "--id", "two", "--image", str(photograph))
    place.unsee("add", "--id", "three", "--entities", "nobody")
    said = place.answer("second")
    assert "two\thonoured" in said
    assert "three\tunmatched" in said
    assert "build-vanilla cached" in said
    second = client.get_model_version_by_alias("unsee-embedded", "champion")
    assert (first.tags["forget_people"], second.tags["forget_people"]) == ("1", "2")
    assert second.tags["base_sha256"] == first.tags["base_sha256"]
    assert Turn.of(Journal(place.root).read()).people == {"P001", "P002"}
    assert "7 records, unbroken" in place.unsee("verify")
    assert place.unsee("list").split()[1::3] == ["honoured", "unmatched", "honoured"]
    assert '"outcome": "honoured"' in place.unsee("show", "two")


@pytest.mark.long
def test_a_run_that_fails_ends_its_turn(place):
    place.unsee("add", "--id", "one", "--entities", "P001")
    with pytest.raises(Exception, match=r"vanilla\.base = '/nowhere'"):
        place.answer("first", "vanilla.base=/nowhere")
    turn = Turn.of(Journal(place.root).read())
    assert (turn.run, turn.answers) == (None, {})
    assert place.unsee("list").split()[1] == "open"
