"""The sweep DAG: candidates that a step names, compared."""

from functools import cache
from typing import Any

import pytest
import yaml

from unsee.errors import UserError
from unsee_components.resolve_settings.component import resolve_settings
from unsee_components.sweep_candidates.component import sweep_candidates
from unsee_pipelines.compile import COMPILED


@cache
def tasks(name: str) -> dict[str, dict[str, Any]]:
    """Every task of a golden by the name that people see."""
    specification = next(yaml.load_all((COMPILED / f"{name}.yaml").read_text(), yaml.CSafeLoader))
    found = (component["dag"]["tasks"] for component in specification["components"].values() if "dag" in component)
    return {task["taskInfo"]["name"]: task for each in found for task in each.values()}


def loops(name: str) -> list[dict[str, Any]]:
    return [task for task in tasks(name).values() if "parameterIterator" in task]


def test_a_sweep_is_a_comparison_of_candidates() -> None:
    assert {*tasks("sweep")} - {*tasks("compare")} == {"sweep-candidates"}
    report = tasks("sweep")["compare-report"]["inputs"]["parameters"]["report"]
    assert report["runtimeValue"]["constant"] == "sweep"


def test_every_candidate_is_taken_at_every_seed() -> None:
    seeds, candidates = (loop["parameterIterator"]["items"]["inputParameter"] for loop in loops("sweep"))
    assert seeds == "pipelinechannel--seeds"
    methods = {"producerTask": "sweep-candidates", "outputParameterKey": "methods"}
    assert loops("sweep")[0]["inputs"]["parameters"][candidates]["taskOutputParameter"] == methods
    assert tasks("sweep")["compare-report"]["inputs"]["parameters"]["methods"]["taskOutputParameter"] == methods


def test_candidates_are_named_as_on_the_command_line() -> None:
    (named,) = sweep_candidates.python_func("vkd unlearn.bound=7", "unlearn.beta=0, 14", "")
    assert named == ["vkd unlearn.bound=7 unlearn.beta=0", "vkd unlearn.bound=7 unlearn.beta=14"]


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("vanilla.steps=10,20", r"vkd vanilla.steps=10: vanilla.steps is the same for all methods of a comparison"),
        ("unlearn.beta", r"'unlearn.beta' is not KEY=VALUE"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_the_step(parameter: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        sweep_candidates.python_func("vkd", parameter, "")


def test_a_comparison_on_a_cluster_refuses_what_reaches_other_methods_too() -> None:
    with pytest.raises(UserError, match=r"vkd vanilla.steps=1: vanilla.steps is the same for all methods"):
        resolve_settings.python_func("embedded", "vkd vanilla.steps=1", [], "", 0, "", "", [])
