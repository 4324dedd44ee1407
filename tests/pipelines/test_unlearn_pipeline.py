"""The DAG as KFP will see it: caching, and what each step depends on."""

import pytest
import yaml

from unsee_pipelines.compile import COMPILED

OUTSIDE = {"report", "register", "finish"}


@pytest.fixture(scope="module")
def specification():
    return next(yaml.safe_load_all((COMPILED / "unlearn.yaml").read_text()))


@pytest.fixture(scope="module")
def tasks(specification):
    """Every container task of the DAG by name."""
    (body,) = (c["dag"]["tasks"] for c in specification["components"].values() if "dag" in c)
    return {**body, "finish": specification["root"]["dag"]["tasks"]["finish"]}


def test_only_steps_that_talk_to_the_outside_are_never_cached(tasks):
    cached = {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}
    assert set(tasks) - cached == OUTSIDE


def test_every_cached_step_depends_on_the_code(tasks):
    cached = set(tasks) - OUTSIDE
    assert [name for name in sorted(cached) if "code_digest" not in tasks[name]["inputs"]["parameters"]] == []


def test_each_step_reads_its_own_section_only(tasks):
    sections = {
        name: task["inputs"]["parameters"]["settings"]["taskOutputParameter"]["outputParameterKey"]
        for name, task in tasks.items()
        if "settings" in task.get("inputs", {}).get("parameters", {})
    }
    assert sections == {
        "prepare-benchmark": "benchmark",
        "build-vanilla": "vanilla",
        "build-retrained": "vanilla",
        "collect-statistics": "statistics",
        "prune": "prune",
        "unlearn": "unlearn",
        "evaluate": "evaluation",
        "evaluate-2": "evaluation",
        "evaluate-3": "evaluation",
        "relearn-attack": "relearn",
        "relearn-attack-2": "relearn",
        "relearn-attack-3": "relearn",
        "report": "sections",
    }


def test_finish_runs_however_the_others_end(tasks):
    assert tasks["finish"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
