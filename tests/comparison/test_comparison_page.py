"""report.html of a comparison says who is closest, marks what is the paper's, and needs no network."""

import re
from pathlib import Path

import pytest
from made_seeds import NO_ATTACK, SEARCHED, Compared, Outcome, compared, make_seed
from pages import Elements, text


def table(html: str, caption: str) -> str:
    """The words of the table whose caption begins so."""
    (found,) = re.findall(rf'<table class="scores" aria-label="{re.escape(caption)}.*?</table>', html, flags=re.S)
    return text(found)


def test_headline_and_lead(two_seeds: Compared) -> None:
    words = text(two_seeds.html)
    assert "Closest to a model that never saw them: vkd, 2.5 points away" in words
    assert "vkd ends 2.5 points (95 % interval" in words
    assert "the people who stay lose 1 point. Next is f_vkd, 5 points" in words
    assert "vkd is surely closer than npo; neither surely closer nor farther than f_vkd" in words
    lost = "of whom unlearning sees nothing, lose 0 points with vkd, surely losing less than with npo; losing neither"
    assert lost in words
    brought_back = "an attacker brings back 1.2 points more of vkd than of the retrained model, on questions that"
    assert f"From 20 % of the photographs, {brought_back} were not used; neither surely less nor" in words
    assert f"From 20 % of the people, {brought_back}" in words
    assert "Not ranked, because the people who stay lose more than 2 points: ga." in words


def test_no_ranking_says_why(nothing_to_forget: Compared) -> None:
    words = text(nothing_to_forget.html)
    assert "Which method forgets best cannot be said" in words
    assert "No ranking is possible: seed 1: there was little to forget" in words
    assert "Seed 1: there was not enough to forget, 5.0 points" in words


def test_effectiveness_beside_the_papers(two_seeds: Compared) -> None:
    words = table(two_seeds.html, "Table 1.")
    assert re.search(r"vkd 2\.5 0\.0–[\d.]+ 2\.5 0\.0–[\d.]+ 22\.5", words)
    assert "Ours (VKD) in the paper – – 29.8 35.8 – 45.0 36.1 – 47.2 54.9 –" in words
    assert "ga costs others too much" in words
    assert "f_vkd" not in words
    assert "retrain the reference itself" in words


def test_ablation_beside_the_papers(two_seeds: Compared) -> None:
    words = table(two_seeds.html, "Table 3.")
    assert "f_vkd 5.0" in words
    assert "F+VKD in the paper – – 30.8 30.6 – 40.7 34.9 – 44.8 53.5 –" in words
    assert "Ours (VKD) in the paper – – 29.8 35.8 – 45.0 36.1 – 46.9 54.9 –" in words
    assert "npo" not in words


def test_costs_beside_the_papers(two_seeds: Compared) -> None:
    words = table(two_seeds.html, "Table 2.")
    assert "vkd trains the vision part 4.0 0.0–16.7 900 1 000 Ours (VKD) in the paper 16.7 min ± 1.3 47.7 GB" in words


def test_what_a_method_tells_of_itself_is_the_mean_over_seeds(two_seeds: Compared) -> None:
    assert "What npo works with: teacher accuracy, both 37.5 %." in text(two_seeds.html)
    assert "What vkd works with" not in text(two_seeds.html)


def test_relearning_beside_the_control_and_the_papers(two_seeds: Compared) -> None:
    words = table(two_seeds.html, "Forget VQA, 20 % of the photographs")
    assert re.search(r"vkd 22\.5 33\.8 45\.0 \+22\.5 \S+ to \S+ \+20\.0", words)
    assert "Ours (VKD) in the paper 29.3 29.2 27.6 +1.3 – – – –" in words
    assert "in the paper" not in table(two_seeds.html, "Forget VQA, 10 % of the photographs")
    assert "Ours (VKD) in the paper 43.2 43.6 42.8 +0.8 –" in table(two_seeds.html, "Forget QA, 20 % of the people")


def test_pairs_tell_distance_loss_and_attack(two_seeds: Compared) -> None:
    """Of npo: distance, then on training photographs, what the people who stay lose, and real-world people."""
    words = table(two_seeds.html, "vkd minus each other method, in points")
    assert "Lost, VQA, unseen" in words
    assert re.search(r"npo -15\.0 \S+ to \S+ -15\.0 \S+ to \S+ \+1\.0 \S+ to \S+ -20\.0 \S+ to \S+ ", words)


def test_the_papers_rows_are_marked(two_seeds: Compared) -> None:
    """Every row that says so is styled so, and the page says whose numbers they are."""
    assert two_seeds.html.count('<tr class="paper">') == two_seeds.html.count("<small>in the paper</small>") > 10
    assert "Rows in italics are the paper’s , not ours: another model on another benchmark" in text(two_seeds.html)


def test_figure_is_told_in_words(two_seeds: Compared) -> None:
    labels = [a["aria-label"] or "" for a in Elements(two_seeds.html).named("svg")]
    stay = next(label for label in labels if label.startswith("People who stay. "))
    assert "1 vkd: distance to retrained, points 2.5, lost by them, points 1.0" in stay
    assert "4 ga: distance to retrained, points 22.5, lost by them, points 46.0" in stay
    realworld = next(label for label in labels if label.startswith("Real-world people. "))
    assert "3 npo: distance to retrained, points 17.5, lost by them, points 20.0" in realworld


def test_page_says_what_its_intervals_are_over(two_seeds: Compared, one_seed: Compared) -> None:
    assert "intervals over seeds and people; of costs" in text(two_seeds.html)
    assert "One seed: 95 % intervals are over people." in text(one_seed.html)
    assert "over seeds" not in text(one_seed.html)


def test_page_loads_nothing(two_seeds: Compared) -> None:
    elements = Elements(two_seeds.html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "img"} & {tag for tag, _ in elements.found}
    assert "url(" not in two_seeds.html
    policy = [m["content"] for m in elements.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_settings_seeds_and_versions_are_told(two_seeds: Compared) -> None:
    words = text(two_seeds.html)
    for told in ("seeds 0, 1", "Settings: ga", "learning_rate 0.002", "transformers", "unsee"):
        assert told in words


def test_what_settings_were_chosen_from_is_told(two_seeds: Compared, one_seed: Compared) -> None:
    words = text(two_seeds.html)
    assert "What settings are chosen from" in words
    assert "npo: unlearn.beta 0.1, 0.4, 0.9 0.4 ga: unlearn.learning_rate 1e-05 to 0.001 1.78e-05" in words
    assert "ga: unlearn.clip 1 –" in words
    assert two_seeds.comparison["methods"]["npo"]["searched"] == SEARCHED["npo"]
    assert "are chosen from" not in text(one_seed.html)


def test_what_is_not_measured_is_printed_with_its_reason(one_person: Compared) -> None:
    words = text(one_person.html)
    assert "nobody in this request is in the realworld set" in words
    assert NO_ATTACK in words
    assert not re.search(r"\b(None|nan|null)\b", re.sub(r"Settings:.*", "", words))
    elements = Elements(one_person.html)
    ids = {a["id"] for _, a in elements.found if "id" in a}
    assert {(a["href"] or "").removeprefix("#") for a in elements.named("a")} == ids


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    methods = {"<script>alert(1)</script>": Outcome(0.25, settings={"method": "vkd"})}
    html = compared(tmp_path, [make_seed(tmp_path, 0, methods)]).html
    assert "<script" not in html
    assert "Closest to a model that never saw them: &lt;script&gt;" in html


@pytest.mark.parametrize("name", ["two_seeds", "one_seed", "one_person", "nothing_to_forget"])
def test_headers_have_a_scope(name: str, request: pytest.FixtureRequest) -> None:
    elements = Elements(request.getfixturevalue(name).html)
    assert all(header.get("scope") for header in elements.named("th"))
