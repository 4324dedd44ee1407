"""Candidates are named as a comparison names them, the same at every call, and every value of a preset is a setting."""

from typing import Any

import numpy as np
import pytest

from unsee.comparison.candidates import Candidate, draw, frontier, grouped, searched, sweep
from unsee.errors import Problems, UserError
from unsee.settings import load_settings, method_entries

RATES = {"unlearn.learning_rate": {"low": 1e-5, "high": 1e-3}}


AS_SET = {"unlearn": {"learning_rate": 1e-4, "clip": 8.0, "epochs": 1, "beta": 0.1}}


def drawn(budget: int, **space: Any) -> list[str]:
    """Candidates of ga, whose settings are AS_SET."""
    return draw(["ga"], entries(**space), budget, lambda _method: AS_SET)


def entries(**space: Any) -> dict[str, dict[str, Any]]:
    return {"ga": {"search": space.get("search", RATES)}}


def values(candidates: list[str]) -> list[float]:
    return [float(Candidate.parse(name).value) for name in candidates]


def test_a_sweep_is_a_candidate_per_value_behind_the_method_s_own_settings() -> None:
    assert sweep("vkd unlearn.blends=0", "unlearn.beta = 0, 0.3,1e-3,none") == [
        f"vkd unlearn.blends=0 unlearn.beta={value}" for value in ("0", "0.3", "1e-3", "none")
    ]


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("unlearn.beta", "is not KEY=VALUE,VALUE…; write e.g."),
        ("=1,2", "is not KEY=VALUE,VALUE…"),
        ("unlearn.beta=", "is not KEY=VALUE,VALUE…"),
        ("unlearn.beta=1,,2", "unlearn.beta: '' is no value"),
        ("unlearn.beta=1 2,3", "unlearn.beta: '1 2' is no value"),
        ("unlearn.mask={fraction: 1}", "unlearn.mask: '{fraction: 1}' is no value"),
        ("unlearn.beta=1,2,1.0", "unlearn.beta: 1 is given more than once"),
    ],
)
def test_what_is_no_parameter_is_told(parameter: str, told: str) -> None:
    with pytest.raises(UserError, match=told.replace("{", "[{]")):
        sweep("vkd", parameter)


def test_lines_are_told_apart_by_method_and_setting_numbers_ascending_then_words() -> None:
    found = grouped(
        [
            "vkd unlearn.bound=none",
            "ga unlearn.clip=3",
            "vkd unlearn.bound=10",
            "vkd unlearn.bound=9",
            "vkd unlearn.blends=0 unlearn.bound=2",
        ]
    )
    assert {title: [c.value for c in line] for title, line in found.items()} == {
        "vkd unlearn.blends=0 over unlearn.bound": ["2"],
        "ga over unlearn.clip": ["3"],
        "vkd over unlearn.bound": ["9", "10", "none"],
    }


def test_a_method_without_settings_of_its_own_varies_nothing() -> None:
    with pytest.raises(UserError, match="vkd has no setting of its own"):
        grouped(["vkd"])


def test_settings_are_nested_and_typed_as_in_a_preset() -> None:
    name = "mmunlearner unlearn.learning_rate=3e-05 unlearn.mask.fraction=0.5 unlearn.epochs=4 unlearn.layers=null"
    assert Candidate.parse(name).settings == {
        "unlearn": {"learning_rate": 3e-05, "mask": {"fraction": 0.5}, "epochs": 4, "layers": None}
    }


def test_every_method_has_values_to_try_and_all_of_them_are_settings_of_it() -> None:
    found = method_entries("embedded")
    methods = [name for name, entry in found.items() if "strength" in entry]
    assert {"vkd", "ga", "ga_diff", "kl_min", "npo", "npo_retain", "mmunlearner", "vgid", "manu"} <= {*methods}
    for name in [
        *frontier(methods, found),
        *draw(methods, found, 12, lambda m: load_settings("embedded", method=m).model_dump()),
    ]:
        method, *own = name.split()
        settings = load_settings("embedded", method=method, assignments=own)
        for setting, value in Candidate.parse(name).own:
            assert str(_at(settings, setting)) == value or float(_at(settings, setting)) == float(value)


@pytest.mark.parametrize(
    "parameter",
    [
        "unlearn.beta=0,3,14",
        "unlearn.alpha=0.3,1,3",
        "prune.threshold.fraction=0.02,0.2",
        "unlearn.mask.fraction=0.2,0.9",
        "unlearn.layers=1,3",
    ],
)
def test_what_the_paper_varies_can_be_swept(parameter: str) -> None:
    setting, _, values = parameter.partition("=")
    for name, value in zip(sweep("vkd", parameter), values.split(","), strict=True):
        method, *own = name.split()
        found = load_settings("embedded", method=method, assignments=own)
        assert _at(found, setting) == float(value)
        changed = {setting.partition(".")[0]}
        default = load_settings("embedded").model_dump()
        assert {section for section, each in found.model_dump().items() if each != default[section]} <= changed


def _at(settings: Any, path: str) -> Any:
    for part in path.split("."):
        settings = getattr(settings, part)
    return settings


def test_the_first_candidate_is_what_is_set_already() -> None:
    assert drawn(1) == ["ga unlearn.learning_rate=0.0001"]


def test_a_setting_without_a_value_is_told() -> None:
    with pytest.raises(UserError, match=r"methods\.ga\.search varies unlearn\.mask\.fraction, which has no value"):
        drawn(1, search={"unlearn.mask.fraction": [0.2, 0.5]})


def test_a_larger_budget_begins_with_a_smaller_one() -> None:
    assert drawn(9)[:4] == drawn(4)


def test_a_range_is_covered_evenly_by_its_logarithm() -> None:
    found = np.log10(values(drawn(15)))
    assert found.min() >= -5
    assert found.max() <= -3
    assert np.histogram(found, bins=4, range=(-5, -3))[0].tolist() == pytest.approx([4, 4, 4, 4], abs=1)


def test_a_choice_is_made_as_often_of_each_and_no_candidate_twice() -> None:
    space = {"unlearn.epochs": [1, 2], "unlearn.beta": [0.1, 0.4, 0.9]}
    found = drawn(6, search=space)
    assert len(set(found)) == 6
    with pytest.raises(UserError, match=r"methods\.ga\.search holds 6 candidates, fewer than --budget 7"):
        drawn(7, search=space)


def test_a_range_too_narrow_for_the_budget_is_told() -> None:
    space = {"unlearn.clip": {"low": 8.0, "high": 8.05}}
    assert len(drawn(6, search=space)) == 6
    with pytest.raises(UserError, match=r"methods\.ga\.search holds 6 candidates, fewer than --budget 7"):
        drawn(7, search=space)


def test_a_strength_without_values_is_told() -> None:
    strength = {"parameter": "unlearn.clip", "values": []}
    with pytest.raises(Problems, match=r"methods\.ga\.strength is not valid:\s+values = \[\]"):
        frontier(["ga"], {"ga": {"strength": strength}})


def test_a_search_takes_names_alone() -> None:
    with pytest.raises(UserError, match=r"ga unlearn\.clip=1: a search takes methods by name alone"):
        draw(["ga unlearn.clip=1"], entries(), 2, lambda _method: AS_SET)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"unlearn.instruction": ["two words"]}, "two words"),
        ({"unlearn.clip": {"low": 2, "high": 1}}, "low must be below high"),
        ({"unlearn.clip": {"low": 0, "high": 1}}, "greater than 0"),
        ({"unlearn.clip": 3}, "unlearn.clip"),
        ({"unlearn.clip": []}, "at least 1 item"),
    ],
)
def test_a_malformed_space_is_told(search: Any, told: str) -> None:
    with pytest.raises(Problems, match=r"methods\.ga\.search is not valid") as error:
        drawn(2, search=search)
    assert told in str(error.value)


def test_what_a_candidate_was_chosen_from_stands_beside_what_it_has() -> None:
    entries = {"npo": {"search": {"unlearn.beta": [0.1, 0.4], "unlearn.mask.fraction": {"low": 0.1, "high": 0.8}}}}
    sections = {"unlearn": {"beta": 0.4, "mask": None}}
    assert searched(Candidate.parse("npo unlearn.clip=1"), entries, sections) == {
        "unlearn.beta": {"from": [0.1, 0.4], "value": 0.4},
        "unlearn.mask.fraction": {"from": {"low": 0.1, "high": 0.8}, "value": None},
    }
    assert searched(Candidate.parse("ga"), entries, sections) == {}
