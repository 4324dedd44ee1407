"""What `unsee compare` prints last says the same as its page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_seeds import Compared, Outcome, compared, make_seed

from unsee_pipelines.local import Outcome as Ended
from unsee_pipelines.summary import comparison_table


@pytest.fixture
def table() -> Callable[[Compared], str]:
    return lambda found: comparison_table(
        Ended(found.directory, "sqlite:///mlflow.db", "run", {"prune": 6.4}, frozenset(), 1_620_000_000)
    )


def test_it_begins_with_the_headline_and_orders_methods_by_distance(
    table: Callable[[Compared], str], two_seeds: Compared
) -> None:
    headline, *lines = table(two_seeds).splitlines()
    assert headline == two_seeds.comparison["headline"]
    rows = [re.fullmatch(r"(\w+) +([\d.]+) +-?[\d.]+ +-?[\d.]+ +[\d.]+", line) for line in lines]
    found = {row[1]: float(row[2]) for row in rows if row}
    assert [*found] == ["retrain", "vkd", "f_vkd", "npo", "ga"]
    assert [*found.values()] == sorted(found.values())


def test_what_was_not_measured_is_a_dash(table: Callable[[Compared], str], tmp_path: Path) -> None:
    people = {"forget": 2, "retain": 0, "realworld": 1}
    models = {"vanilla": Outcome(0.95, attacked=False), "retrained": Outcome(0.25, attacked=False)}
    methods = {"vkd": Outcome(0.3, attacked=False, seconds=None)}
    seed = make_seed(tmp_path, 0, methods, **models, people=people)
    (row,) = [line for line in table(compared(tmp_path, [seed])).splitlines() if line.startswith("vkd")]
    assert row.split() == ["vkd", "5.0", "–", "–", "–"]


def test_nobody_to_forget_is_no_distance(table: Callable[[Compared], str], tmp_path: Path) -> None:
    people = {"forget": 0, "retain": 2, "realworld": 1}
    seed = make_seed(tmp_path, 0, {"vkd": Outcome(0.3)}, people=people)
    (row,) = [line for line in table(compared(tmp_path, [seed])).splitlines() if line.startswith("vkd")]
    assert row.split()[:3] == ["vkd", "–", "0.0"]
