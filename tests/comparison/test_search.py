"""A search chooses by its rule, at tuning seeds alone, and what it writes can be given to the next comparison."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from compared import searched as in_markdown
from made_seeds import VANILLA, Compared, Outcome, compared, make_seed

from unsee.errors import UserError
from unsee.settings import load_settings

RATE, BETA = "unlearn.learning_rate", "unlearn.beta"
OUTCOMES = {
    f"npo {RATE}=1e-05 {BETA}=0.4": Outcome(0.9, attacked=False),
    f"npo {RATE}=0.0001 {BETA}=0.4": Outcome(0.4, retain=0.94, attacked=False),
    f"npo {RATE}=0.001 {BETA}=0.9": Outcome(0.25, retain=0.8, attacked=False),
    f"ga {RATE}=1e-05": Outcome(0.6, retain=0.9, attacked=False),
    f"ga {RATE}=0.0001": Outcome(0.25, retain=0.5, attacked=False),
}
REFERENCES = {"vanilla": Outcome(0.95, attacked=False), "retrained": Outcome(0.25, attacked=False)}


def searched(root: Path, seeds: tuple[int, ...] = (100, 101), **references: Outcome) -> Compared:
    of_method = {name: replace(outcome, settings={"method": name.split()[0]}) for name, outcome in OUTCOMES.items()}
    made = [make_seed(root, seed, of_method, **{**REFERENCES, **references}) for seed in seeds]
    return compared(root, made, "search")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return searched(tmp_path_factory.mktemp("search"))


def test_the_nearest_is_chosen_among_those_that_keep_the_people_who_stay(search: Compared) -> None:
    told = json.loads((search.directory / "search.json").read_text())
    npo = told["methods"]["npo"]
    assert (npo["chosen"], npo["matched"], npo["budget"]) == (f"npo {RATE}=0.0001 {BETA}=0.4", True, 3)
    assert npo["candidates"][npo["chosen"]]["distance"]["mean"] == pytest.approx(0.15)
    assert npo["candidates"][npo["chosen"]]["retain_loss"]["mean"] == pytest.approx(0.02)
    assert (told["seeds"], told["reason"]) == ([100, 101], None)
    assert "at most 2 points" in told["rule"]


def test_where_none_keeps_them_the_one_that_loses_least_is_chosen_and_marked_so(search: Compared) -> None:
    found = json.loads((search.directory / "search.json").read_text())["methods"]["ga"]
    assert (found["chosen"], found["matched"]) == (f"ga {RATE}=1e-05", False)
    assert "chosen: costs others least" in search.html
    assert "No candidate kept the people who stay within that: ga." in search.html


def test_the_chosen_settings_are_a_config_and_stand_as_in_a_preset(search: Compared) -> None:
    file = search.directory / "chosen.yaml"
    assert yaml.safe_load(file.read_text()) == {
        "methods": {
            "ga": {"unlearn": {"learning_rate": 1e-5}},
            "npo": {"unlearn": {"learning_rate": 1e-4, "beta": 0.4}},
        }
    }
    settings = load_settings("embedded", config=file, method="npo").unlearn
    assert (settings.learning_rate, settings.beta) == (1e-4, 0.4)


def test_reported_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds names 99, but figures are reported at seeds below 100"):
        searched(tmp_path, seeds=(99, 100))
    assert not (tmp_path / "search").exists()


def test_nothing_is_chosen_where_there_was_nothing_to_forget(tmp_path: Path) -> None:
    search = searched(tmp_path, retrained=Outcome(VANILLA.forget, attacked=False))
    assert yaml.safe_load((search.directory / "chosen.yaml").read_text()) == {"methods": {}}
    assert "Nothing can be chosen" in search.html
    assert "Candidates cannot be told apart: seed 100: there was little to forget" in search.html


def test_in_markdown_every_candidate_is_told_and_the_chosen_one_in_bold(search: Compared) -> None:
    lines = list(in_markdown(json.loads((search.directory / "search.json").read_text())))
    assert "| **npo** | **learning_rate 0.0001, beta 0.4** | **15.0** | **40.0** | **2.0** | **0.0** |" in lines
    assert "| npo | learning_rate 0.001, beta 0.9 | 0.0 | 25.0 | 16.0 | 0.0 |" in lines
    assert len(lines) == 2 + 5
    assert len({line.count("|") for line in lines}) == 1
