"""What every compiled pipeline has: see test_unlearn_pipeline.py and test_compare_pipeline.py for what each does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unsee.errors import UserError
from unsee_components import IMAGE
from unsee_pipelines import readme
from unsee_pipelines.compile import COMPILED, PIPELINES, Fixed, compile_all

REFERENCE = "registry.example/unsee@sha256:" + "0" * 64
MACHINE = {"cpu", "memory", "gpus", "accelerator", "node_selector", "tolerations"}
HOLDS_A_MODEL = ("build", "collect", "unlearn", "evaluate", "relearn")
PLACEHOLDER = re.compile(r"\$\.inputs\.parameters\['(.+?)'\]")


@pytest.fixture(scope="module", params=PIPELINES)
def text(request: pytest.FixtureRequest) -> str:
    """A golden."""
    return (COMPILED / f"{request.param}.yaml").read_text()


@pytest.fixture(scope="module")
def golden(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A golden's specification, and each executor's Kubernetes settings."""
    specification, platform = yaml.load_all(text, yaml.CSafeLoader)
    return specification, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture
def specification(golden: tuple[dict, dict]) -> dict[str, Any]:
    return golden[0]


@pytest.fixture
def kubernetes(golden: tuple[dict, dict]) -> dict[str, Any]:
    return golden[1]


@pytest.fixture
def containers(specification: dict) -> dict[str, dict]:
    return {name: each["container"] for name, each in specification["deploymentSpec"]["executors"].items()}


def dags(specification: dict) -> Iterator[tuple[set[str], dict[str, dict]]]:
    """The parameters that a DAG has, and its tasks, of every DAG."""
    for component in (specification["root"], *specification["components"].values()):
        if "dag" in component:
            yield {*component.get("inputDefinitions", {}).get("parameters", {})}, component["dag"]["tasks"]


def found(value: Any, key: str) -> Iterator[Any]:
    """Every value of this key, however deep."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from found(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from found(each, key)


def heavy(executors: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in executors.items() if name.removeprefix("exec-").startswith(HOLDS_A_MODEL)}


def test_goldens_are_what_the_code_compiles_to(tmp_path: Path) -> None:
    compiled = compile_all(tmp_path)
    assert {path.name for path in compiled.values()} == {path.name for path in COMPILED.iterdir()}
    for path in compiled.values():
        assert (COMPILED / path.name).read_text() == path.read_text(), "run `make readme` and look at the diff"


def test_the_image_is_named_by_its_version(containers: dict) -> None:
    assert {container["image"] for container in containers.values()} == {IMAGE}


def test_what_is_fixed_when_compiling_may_be_chosen(tmp_path: Path) -> None:
    fixed = Fixed(image=REFERENCE, hours=2, shared_memory="16Gi", parallelism=3)
    compiled = compile_all(tmp_path, fixed, ["compare"])
    assert compiled.keys() == {"compare"}
    specification, platform = yaml.safe_load_all(compiled["compare"].read_text())
    assert {*found(specification, "image")} == {REFERENCE}
    assert [*found(specification, "parallelismLimit")] == [3, 3]
    assert {*found(platform, "activeDeadlineSeconds")} == {"7200"}
    assert {*found(platform, "sizeLimit")} == {"16Gi"}


@pytest.mark.parametrize(
    ("wrong", "told"), [({"image": "two words"}, "--image"), ({"shared_memory": "16GB"}, "--shared-memory '16GB'")]
)
def test_what_kubernetes_would_not_take_is_refused(wrong: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Fixed(**wrong)


def test_no_path_of_the_machine_that_compiled_it(text: str) -> None:
    assert str(COMPILED.parent.parent) not in text


def test_every_parameter_has_a_default_and_a_description(specification: dict) -> None:
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    assert parameters.keys() >= MACHINE
    assert all("defaultValue" in parameter and parameter["description"] for parameter in parameters.values())


def test_a_quantity_is_text_since_kfp_reads_a_number_as_an_empty_one(specification: dict) -> None:
    parameters = specification["root"]["inputDefinitions"]["parameters"]
    quantities = MACHINE - {"node_selector", "tolerations"}
    assert {parameters[name]["parameterType"] for name in quantities} == {"STRING"}


def test_every_parameter_that_is_read_is_an_input_of_the_dag_it_is_read_in(
    specification: dict, kubernetes: dict, containers: dict
) -> None:
    for inputs, tasks in dags(specification):
        for task in tasks.values():
            label = specification["components"][task["componentRef"]["name"]].get("executorLabel")
            assert {*found([task, kubernetes.get(label, {})], "componentInputParameter")} <= inputs
            given = task.get("inputs", {}).get("parameters", {})
            assert {*PLACEHOLDER.findall(str(containers.get(label, {}).get("resources")))} <= {*given}


def test_every_step_retries_with_backoff(specification: dict) -> None:
    policies = [
        task["retryPolicy"]
        for _, tasks in dags(specification)
        for task in tasks.values()
        if "executorLabel" in specification["components"][task["componentRef"]["name"]]
    ]
    assert {(policy["maxRetryCount"], policy["backoffDuration"], policy["backoffFactor"]) for policy in policies} == {
        (3, "30s", 2.0)
    }


def test_every_step_has_requests_and_limits(containers: dict) -> None:
    for container in containers.values():
        told = {name.removeprefix("resource").lower() for name in container["resources"]}
        assert told >= {"cpurequest", "cpulimit", "memoryrequest", "memorylimit"}


def test_steps_that_hold_a_model_run_on_the_machine_that_the_run_asks_for(containers: dict, kubernetes: dict) -> None:
    assert heavy(containers)
    for name, container in containers.items():
        asked = {*PLACEHOLDER.findall(str(container["resources"]))}
        told = {*found(kubernetes[name], "componentInputParameter")}
        expected = {f"pipelinechannel--{each}" for each in MACHINE} if name in heavy(containers) else set()
        assert asked | told == expected


def test_shared_memory_is_memory(kubernetes: dict) -> None:
    assert all(
        (mount["mountPath"], mount["medium"]) == ("/dev/shm", "Memory")
        for executor in heavy(kubernetes).values()
        for mount in executor["emptyDirMounts"]
    )
    assert {name for name, executor in kubernetes.items() if "emptyDirMounts" in executor} == {*heavy(kubernetes)}


def test_every_step_is_told_by_kubernetes_where_servers_are_and_has_a_timeout(
    containers: dict, kubernetes: dict
) -> None:
    assert kubernetes.keys() == containers.keys()
    for executor in kubernetes.values():
        assert executor["activeDeadlineSeconds"] == "86400"
        assert [(each["configMapName"], each["optional"]) for each in executor["configMapAsEnv"]] == [
            ("unsee", False),
            ("unsee", True),
        ]
        assert [(each["secretName"], each["optional"]) for each in executor["secretAsEnv"]] == [
            ("unsee-s3", False),
            ("unsee-mlflow", True),
        ]
        variables = {*found(executor, "envVar")}
        assert variables == {
            "UNSEE_STORE",
            "UNSEE_CHECKPOINTS",
            "AWS_REGION",
            "AWS_ENDPOINT_URL",
            "MLFLOW_TRACKING_URI",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
        }
        assert executor["fieldPathAsEnv"] == [{"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}]


def test_no_secret_is_in_the_file(text: str, containers: dict) -> None:
    of_steps, of_kubernetes = text.split("\n---\n")
    assert not re.search(r"password|secret_?access|token", of_steps, re.IGNORECASE)
    assert {*re.findall(r"(\S*(?:password|secret|token)\S*):", of_kubernetes, re.IGNORECASE)} == {
        "secretAsEnv", "secretKey", "secretName", "secretNameParameter"
    }  # fmt: skip
    assert {each["name"] for container in containers.values() for each in container["env"]} == {"UNSEE_IMAGE"}


def test_readme_is_what_the_docstrings_say() -> None:
    assert readme.FILE.read_text() == readme.readme(), "run `make readme`"


def test_a_row_of_the_readme_s_tables_is_one_line() -> None:
    rows = [line for line in readme.readme().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if not row.endswith(" |")] == []
