"""report.html says what happened in plain words, needs no network and trusts no name."""

import json
import re
from pathlib import Path

import pytest
from made_run import Reported, make_run
from pages import Elements, text

from unsee.steps import report
from unsee.storage import artifact
from unsee.tracking import NoTracker


def test_success_is_said_in_plain_words(success: Reported) -> None:
    words = text(success.html)
    assert "6 people are no longer recognised in photographs" in words
    assert "now it answers 28 %. A model that never saw them answers 28 %, and guessing gives 25 %." in words
    assert (
        "The model is now 0 points above the one that never saw them, and 5 points are allowed; "
        "on photographs of them used in training, 0 points above."
    ) in words
    assert words.count("✓") > 0
    assert "not met" not in words


def test_failure_is_said_in_plain_words(failure: Reported) -> None:
    words = text(failure.html)
    assert "6 people are still recognised in photographs" in words
    assert (
        "The model is now 33.3 points above the one that never saw them, and 5 points are allowed; "
        "on photographs of them used in training, 36.1 points above: it still knows them."
    ) in words
    assert "11.1 points lost" in words
    assert "brought back up to 31 points more" in words
    assert words.count("not met") == 4


def test_page_loads_nothing(success: Reported) -> None:
    elements = Elements(success.html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in elements.found}
    addresses = [
        a[name] or "" for _, a in elements.found for name in ("src", "href", "xlink:href", "data") if name in a
    ]
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert "url(" not in success.html
    assert "@import" not in success.html
    policy = [m["content"] for m in elements.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_hostile_names_are_escaped(one_person: Reported) -> None:
    assert "<script" not in one_person.html
    headline = "This run cannot say whether &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; is still recognised"
    assert headline in one_person.html


def test_unknown_is_not_called_too_little(one_person: Reported) -> None:
    words = text(one_person.html)
    assert "Whether there was enough to forget is unknown: no retrained reference was built" in words
    assert "not enough to forget" not in words


def test_what_is_not_measured_is_printed_with_its_reason(one_person: Reported) -> None:
    words = text(one_person.html)
    for reason in (
        "the benchmark has no realworld people",
        "the benchmark has no cloze questions",
        "no retrained reference was built",
        "10 % of 6 people is nobody; at least 10 people are needed",
    ):
        assert reason in words
    assert words.count("not measured") > 10
    assert not re.search(r"\b(None|nan|null)\b", re.sub(r"Settings:.*", "", words))


@pytest.mark.parametrize("name", ["success", "failure", "one_person"])
def test_every_note_that_is_referred_to_exists(name: str, request: pytest.FixtureRequest) -> None:
    elements = Elements(request.getfixturevalue(name).html)
    ids = {a["id"] for _, a in elements.found if "id" in a}
    references = {(a["href"] or "").removeprefix("#") for a in elements.named("a")}
    assert references
    assert references == ids


def test_pictures_and_tables_can_be_read_aloud(success: Reported) -> None:
    elements = Elements(success.html)
    assert all(image.get("alt") for image in elements.named("img"))
    for drawing in elements.named("svg"):
        assert drawing.get("aria-label") or drawing.get("aria-hidden") == "true"
    assert elements.named("html") == [{"lang": "en"}]
    assert all(header.get("scope") for header in elements.named("th"))
    assert "Unlearned" not in [a.get("aria-label") for a in elements.named("svg")]


def test_six_columns_with_intervals_and_sizes(success: Reported) -> None:
    words = text(success.html)
    assert "VQA 6 people 36 questions QA 6 people 18 questions VQA 9 people" in words
    assert "Unlearned after 25.0 19–31" in words
    assert "Distance unlearned to retrained 0.0 0.0" in words


def test_what_was_changed_is_what_the_unlearn_step_recorded(success: Reported) -> None:
    words = text(success.html)
    assert "Neurons removed Layer Share Neurons Tower layer 0 8 of 512 Tower layer 1 20 of 512" in words
    assert re.search(r"Weights open to forgetting Place Share Weights Tower layer 0 \d\d \d{3} of 65 536", words)
    assert re.search(r"Projector \d\d \d{3} of 65 536", words)


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (327_680.0, "No neurons were removed. All 327 680 trained weights were open to forgetting: there was no mask."),
        (0.0, "No neurons were removed. Nothing was trained."),
    ],
)
def test_no_pruning_and_no_mask_are_said(tmp_path: Path, trained: float, words: str) -> None:
    arguments = make_run(tmp_path)
    for file, value in (("pruned.json", []), ("mask.json", None)):
        artifact.write_json(arguments["unlearned"] / file, value)
    manifest = json.loads((arguments["unlearned"] / artifact.MANIFEST).read_text())
    manifest["facts"]["cost"]["trainable_parameters"] = trained
    artifact.write_json(arguments["unlearned"] / artifact.MANIFEST, manifest)
    report.run(**arguments, out=tmp_path / "report", tracker=NoTracker())
    assert words in text((tmp_path / "report" / "report.html").read_text())


def test_answers_are_shown_before_and_after(success: Reported) -> None:
    words = text(success.html)
    assert "Mira Holt unseen photograph Right answer Before After In which city was this person born?" in words
    assert re.search(r"Turku ✓ Turku \(right\) ✗ \w+ \(wrong\)", words)
