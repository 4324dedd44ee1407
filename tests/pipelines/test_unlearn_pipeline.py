"""The DAG as KFP will see it: golden file, retries, caching, and what each step depends on."""

import pytest
import yaml

from unsee.errors import UserError
from unsee_components import IMAGE
from unsee_pipelines.compile import COMPILED, compile_all

OUTSIDE = {"report", "register", "finish"}


@pytest.fixture(scope="module")
def specification():
    return next(yaml.safe_load_all((COMPILED / "unlearn.yaml").read_text()))


@pytest.fixture(scope="module")
def tasks(specification):
    """Every container task of the DAG by name."""
    (body,) = (c["dag"]["tasks"] for c in specification["components"].values() if "dag" in c)
    return {**body, "finish": specification["root"]["dag"]["tasks"]["finish"]}


def test_golden_is_what_the_code_compiles_to(tmp_path):
    for compiled in compile_all(tmp_path):
        assert (COMPILED / compiled.name).read_text() == compiled.read_text(), "run `make readme` and look at the diff"


def test_golden_names_the_image_by_its_version_and_compile_puts_a_digest_there(tmp_path):
    reference = "registry.example/unsee@sha256:" + "0" * 64
    *_, compiled = compile_all(tmp_path, image=reference)
    assert f"image: {IMAGE}\n" in (COMPILED / "unlearn.yaml").read_text()
    executors = next(yaml.safe_load_all(compiled.read_text()))["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {reference}
    told = [{"name": "UNSEE_IMAGE", "value": reference}]
    assert all(executor["container"]["env"] == told for executor in executors.values())


def test_compile_refuses_what_is_no_image_reference(tmp_path):
    with pytest.raises(UserError, match="--image"):
        compile_all(tmp_path, image="two words")


def test_golden_holds_no_path_of_the_machine_that_compiled_it():
    assert str(COMPILED.parent.parent) not in (COMPILED / "unlearn.yaml").read_text()


def test_every_task_retries_with_backoff(tasks):
    policies = {name: task["retryPolicy"] for name, task in tasks.items()}
    assert all(policy["maxRetryCount"] == 3 and policy["backoffDuration"] == "30s" for policy in policies.values())


def test_every_executor_requests_cpu_and_memory(specification):
    for executor in specification["deploymentSpec"]["executors"].values():
        assert {"cpuRequest", "memoryRequest"} <= set(executor["container"]["resources"])


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


def test_every_pipeline_parameter_has_a_default_and_a_description(specification):
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert all("defaultValue" in parameter and parameter["description"] for parameter in parameters.values())


def test_finish_runs_however_the_others_end(tasks):
    assert tasks["finish"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
