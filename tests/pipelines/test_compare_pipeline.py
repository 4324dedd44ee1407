"""The comparison DAG: what reaches each step, and names that tell methods and seeds apart."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow import MlflowClient
from noted_steps import execute, noted

from unsee.sections import BenchmarkSettings
from unsee.tracking.mlflow import start_parent
from unsee_components.prepare_benchmark.component import prepare_benchmark
from unsee_components.resolve_settings.component import resolve_settings
from unsee_pipelines.compare import comparison
from unsee_pipelines.compile import COMPILED
from unsee_pipelines.engine import step_names
from unsee_pipelines.jobs import Request, compare_job

METHODS = ["vkd", "vkd unlearn.beta=7"]


@pytest.fixture(scope="module")
def tasks() -> dict[str, dict]:
    """Every task by the name that people see."""
    specification = next(yaml.safe_load_all((COMPILED / "compare.yaml").read_text()))
    dags = [component["dag"] for component in specification["components"].values() if "dag" in component]
    return {task["taskInfo"]["name"]: task for dag in dags for task in dag["tasks"].values()}


def test_the_terminal_names_every_step_by_what_it_does() -> None:
    names = list(step_names(comparison.pipeline_spec).values())
    assert len(set(names)) == len(names)
    assert [name for name in names if name[-1].isdecimal()] == []


def test_every_step_of_a_seed_is_told_apart_by_it_and_those_of_a_method_by_both(tasks: dict[str, dict]) -> None:
    labels = {
        name: task["inputs"]["parameters"]["label"]["taskOutputParameter"]["outputParameterKey"]
        for name, task in tasks.items()
        if "label" in task.get("inputs", {}).get("parameters", {})
    }
    assert {name for name, label in labels.items() if label == "of_method"} == {"prune", "unlearn"}
    assert {name for name, label in labels.items() if label == "of_seed"} == {
        "prepare-benchmark",
        "build-vanilla",
        "build-retrained",
        "collect-statistics",
        *(f"{step}-{name}" for step in ("evaluate", "relearn") for name in ("vanilla", "retrained", "method")),
    }


def test_no_loop_takes_a_step_s_output_which_the_local_engine_would_take_for_its_item(tasks: dict[str, dict]) -> None:
    loops = [task for task in tasks.values() if "parameterIterator" in task]
    assert len(loops) == 2
    inputs = [given for loop in loops for given in loop["inputs"]["parameters"].values()]
    assert [given for given in inputs if "taskOutputParameter" in given] == []


def resolved(method: str, methods: list[str]) -> dict[str, object]:
    names = [*resolve_settings.component_spec.outputs]
    values = resolve_settings.python_func("embedded", method, ["unlearn.clip=2"], "", 3, "", "", methods)
    return dict(zip(names, values, strict=True))


def test_what_methods_share_is_resolved_for_the_first_of_them() -> None:
    shared = resolved("", ["npo unlearn.clip=4", "vkd"])
    assert shared["of_seed"] == resolved("vkd", [])["of_seed"] == ", seed 3"
    assert shared["of_method"] == " npo unlearn.clip=4, seed 3"
    assert '"method":"npo"' in shared["unlearn"]


def test_a_step_of_another_seed_has_an_mlflow_run_of_its_own_and_a_retried_one_goes_on_in_its_first(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = start_parent("compare", {})
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    for attempt, seed in enumerate((0, 1, 1)):
        settings = BenchmarkSettings(forget=1, retain=1, train_views=2, heldout_views=1, seed=seed).model_dump_json()
        out = [SimpleNamespace(path=str(tmp_path / f"{kind}{attempt}"), log_metric=print) for kind in ("out", "told")]
        prepare_benchmark.python_func(settings, "", "", "", *out, label=f", seed {seed}")
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "unsee"]
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert sorted(run.info.run_name for run in children) == ["prepare-benchmark, seed 0", "prepare-benchmark, seed 1"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the DAG, its steps replaced by notes, ran twice by KFP's local engine."""
    root = tmp_path_factory.mktemp("engine")
    for run in ("first", "second"):
        execute(comparison, {"methods": METHODS, "seeds": [0, 1]}, root, run)
    return root


def test_on_one_machine_every_method_is_taken_at_every_seed(engine: Path) -> None:
    ran = noted(engine, "first")
    assert sum(map(len, ran.values())) == compare_job(Request(), METHODS, [0, 1]).steps
    assert [given["label"] for given, _ in ran["unlearn"]] == [
        f" {method}, seed {seed}" for seed in (0, 1) for method in METHODS
    ]
    assert [given["label"] for given, _ in ran["build-vanilla"]] == [", seed 0", ", seed 1"]
    assert [given["seed"] for given, _ in ran["compare-methods"]] == [0, 1]
    assert {lists["models"] for _, lists in ran["compare-methods"]} == {2}
    ((given, lists),) = ran["compare-report"]
    assert lists["seeds"] == 2
    assert [given[name] for name in ("methods", "preset", "overrides", "config")] == [METHODS, "embedded", [], ""]


def test_a_second_comparison_is_served_from_the_cache(engine: Path) -> None:
    assert noted(engine, "second").keys() == {"compare-report", "finish"}
