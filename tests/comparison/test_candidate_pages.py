"""Pages of sweeps and frontiers: what they draw, what they say, and that they need no network."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_seeds import Compared, Outcome, compared, make_seed
from test_comparison_page import Elements, table, text

from unsee.comparison.candidates import Candidate
from unsee.errors import UserError

BETAS = {"0": (0.5, 0.5), "0.3": (0.45, 0.94), "10": (0.3, 0.96), "none": (0.0, 0.6)}
LINES = {
    "vkd unlearn.bound=2": Outcome(0.6, retain=0.96),
    "vkd unlearn.bound=8": Outcome(0.3, retain=0.94),
    "ga unlearn.learning_rate=1e-05": Outcome(0.5, retain=0.8),
    "ga unlearn.learning_rate=0.001": Outcome(0.0, retain=0.3, realworld=0.1),
}


def settings(name: str) -> dict[str, Any]:
    """The method's, and as unlearning tells them the candidate's own."""
    candidate = Candidate.parse(name)
    return {"method": candidate.method, "clip": 2.5, **candidate.settings["unlearn"]}


def made(
    root: Path, outcomes: Mapping[str, Outcome], report: str, *, attacked: bool = True, seeds: Sequence[int] = (0, 1)
) -> Compared:
    of_method = {
        name: replace(outcome, settings=settings(name), attacked=attacked) for name, outcome in outcomes.items()
    }
    vanilla, retrained = Outcome(0.95, relearned=0.95, attacked=attacked), Outcome(0.25, attacked=attacked)
    made = [make_seed(root, seed, of_method, vanilla=vanilla, retrained=retrained) for seed in seeds]
    return compared(root, made, report)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    outcomes = {f"vkd unlearn.beta={value}": Outcome(*shares) for value, shares in BETAS.items()}
    return made(tmp_path_factory.mktemp("sweep"), outcomes, "sweep")


@pytest.fixture(scope="module")
def frontier(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return made(tmp_path_factory.mktemp("frontier"), LINES, "frontier", attacked=False)


def drawn(page: Compared) -> list[str]:
    """What every chart of the page says of itself."""
    return [attributes["aria-label"] or "" for attributes in Elements(page.html).named("svg")]


def test_a_sweep_says_at_which_value_it_is_closest(sweep: Compared) -> None:
    words = text(sweep.html)
    assert "vkd is closest to a model that never saw them at unlearn.beta = 10" in words
    assert "There it ends 5 points (95 % interval" in words
    assert "looked up on the seeds shown here" in words
    assert sweep.comparison["headline"] == "vkd is closest to a model that never saw them at unlearn.beta = 10"


def test_a_sweep_draws_every_quantity_over_the_values_beside_the_references(sweep: Compared) -> None:
    forget, retain, realworld, distance, *relearnt = drawn(sweep)
    assert forget.startswith(
        "Forgotten people. vanilla 95.0; retrained 25.0; unlearn.beta 0: 50.0; unlearn.beta 0.3: 45.0"
    )
    assert forget.endswith("unlearn.beta none: 0.0")
    assert "unlearn.beta none: 60.0" in retain
    assert "vanilla 90.0" in realworld
    assert distance.startswith("Distance to the retrained model. unlearn.beta 0: 25.0; ")
    assert [title.partition(".")[0] for title in relearnt] == [
        f"Relearnt beyond the control, {budget}"
        for budget in ("10 % of the photographs", "20 % of the photographs", "20 % of the people")
    ]


def test_a_sweep_s_numbers_stand_in_a_table_from_the_smallest_value_to_the_words(sweep: Compared) -> None:
    words = table(sweep.html, "vkd over unlearn.beta")
    assert re.search(r"0\.3 20\.0 .* 10 closest 5\.0 .* none costs others too much 25\.0", words)
    assert re.search(r"Vanilla before 70\.0 .* Retrained never saw them 0\.0", words)


def test_an_attack_that_was_not_run_is_told(frontier: Compared, sweep: Compared) -> None:
    told = "What a relearning attack brings back: not measured, no attack was run."
    assert told in text(frontier.html)
    assert "Gap beyond the control" not in text(frontier.html)
    assert told not in text(sweep.html)


def test_a_frontier_draws_a_line_per_method_from_weak_to_strong(frontier: Compared) -> None:
    stay, realworld = drawn(frontier)
    assert stay.startswith(
        "People who stay. 1 vkd over unlearn.bound 2: distance to retrained, points 35.0, lost, points 0.0, "
        "8: distance to retrained, points 5.0, lost, points 2.0; 2 ga over unlearn.learning_rate 1e-05: "
    )
    assert realworld.endswith("0.001: distance to retrained, points 25.0, lost, points 80.0")


def test_a_frontier_says_how_far_every_method_comes(frontier: Compared) -> None:
    words = text(frontier.html)
    assert "Closest to a model that never saw them: vkd unlearn.bound=8, 5 points away" in words
    assert "The best of each: vkd, 5 points away at 8." in words
    assert "At no value within 2 points lost: ga over unlearn.learning_rate." in words


def test_pages_say_what_their_intervals_are_over(sweep: Compared, frontier: Compared, tmp_path: Path) -> None:
    told = "Means over seeds with 95 % intervals over seeds and people"
    assert f"{told}; of what an attack brings back, known by seed only, t-intervals over seeds." in text(sweep.html)
    assert f"{told}." in text(frontier.html)
    alone = text(made(tmp_path, {"vkd unlearn.beta=1": Outcome(0.3)}, "frontier", seeds=[0]).html)
    assert "One seed: 95 % intervals are over people." in alone
    assert "over seeds" not in alone
    assert " 1 method " in alone


def test_settings_that_differ_between_candidates_are_not_told_as_those_of_all(frontier: Compared) -> None:
    (told,) = re.findall(r"Settings of ga, beside those that were varied.*?</table>", frontier.html, flags=re.S)
    words = text(told)
    assert "clip 2.5" in words
    assert "learning_rate" not in words


def test_what_varies_more_than_one_setting_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a sweep varies one setting of one method, not ga over .* and vkd over"):
        made(tmp_path, LINES, "sweep")
    assert not (tmp_path / "sweep").exists()


def test_an_unknown_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="report 'poster' is unknown; choose one of compare, sweep"):
        made(tmp_path, LINES, "poster")


def test_nobody_measured_is_a_note_and_no_chart(tmp_path: Path) -> None:
    outcome = Outcome(0.3, settings={"method": "vkd"})
    people = {"forget": 4, "retain": 3, "realworld": 0}
    seed = make_seed(tmp_path, 0, {"vkd unlearn.beta=1": outcome, "vkd unlearn.beta=2": outcome}, people=people)
    page = compared(tmp_path, [seed], "sweep")
    assert not any(words.startswith("Real-world") for words in drawn(page))
    assert "nobody in this request is in the realworld set" in text(page.html)


@pytest.mark.parametrize("name", ["sweep", "frontier"])
def test_pages_load_nothing_and_their_headers_have_a_scope(name: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(name)
    elements = Elements(page.html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "img"} & {tag for tag, _ in elements.found}
    assert "url(" not in page.html
    assert all(header.get("scope") for header in elements.named("th"))


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    html = made(tmp_path, {"vkd unlearn.beta=<script>alert(1)</script>": Outcome(0.3)}, "sweep").html
    assert "<script" not in html
    assert "unlearn.beta = &lt;script&gt;" in html
