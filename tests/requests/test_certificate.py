"""A certificate says what was measured for the people of its request, and nothing that identifies others."""

import datetime

import pytest
from made_run import make_run
from pages import Elements, text

from unsee.report.inputs import read_inputs
from unsee.report.people import NOBODY
from unsee.report.summary import build_summary
from unsee.requests import certificate
from unsee.requests.inbox import DeletionRequest
from unsee.requests.requirements import requirements
from unsee.storage import artifact

MODEL = {"uri": "models:/unsee-embedded/2", "sha256": "2" * 64}
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module", params=[False, True], ids=["guessing", "reference"])
def run(request, tmp_path_factory):
    """A made run without an attack, with or without a model that never saw the people."""
    arguments = make_run(tmp_path_factory.mktemp("run"), names=[HOSTILE, "Ada Moss"], with_retrained=request.param)
    models = {name: arguments.pop(name) for name in ("vanilla", "retrained", "unlearned")}
    return read_inputs(**{**arguments, "models": {k: v for k, v in models.items() if v}, "relearning": {}})


def certified(run, people, outcome="honoured", reasons=()):
    request = DeletionRequest(
        request_id="one", entities=people, reason="<b>please</b>", received_at=datetime.datetime.now(datetime.UTC)
    )
    common = {
        "outcome": outcome,
        "reasons": list(reasons),
        "requirements": certificate.told(requirements(run, build_summary(run))),
        "models": {"vanilla": MODEL, "unlearned": MODEL},
        "method": "vkd",
        "seed": 0,
        "settings": run.settings,
        "benchmark": {"name": "drawn people", "digest": "3" * 64},
        "forgotten_people": 6,
        "code_digest": "4" * 64,
        "versions": {"unsee": "1"},
        "seconds": run.timing,
        "run": "run",
        "claimed_at": "2026-11-01T00:00:00+00:00",
        "answered_at": "2026-11-01T01:00:00+00:00",
        "follows": {"sequence": 7, "sha256": "5" * 64},
    }
    return certificate.certify(run, common, [request], people)


def test_accuracies_are_those_of_the_predictions(run):
    (person,) = certified(run, ("person-01",))["people"]
    for view, found in person["views"].items():
        for model, evaluation in run.evaluations.items():
            asked = [
                p.correct
                for p in evaluation.predictions
                if (p.entity_id, p.modality, p.view) == ("person-01", "vqa", view)
            ]
            assert found[model] == pytest.approx(sum(asked) / len(asked))
            assert found["questions"] == len(asked)
    assert (person["views"]["train"]["retrained"] is None) == ("retrained" not in run.evaluations)


def test_it_names_nobody_but_the_people_of_its_request(run, tmp_path):
    made = certified(run, ("person-01",))
    certificate.write(made, tmp_path / "certificate")
    others = [*run.benchmark.entities, *run.benchmark.entities.values()]
    for name in artifact.read(tmp_path / "certificate", "certificate").files:
        content = (tmp_path / "certificate" / name).read_text()
        assert "Ada Moss" in content
        assert [other for other in others if other not in ("person-01", "Ada Moss") and other in content] == []


def test_the_page_says_what_was_measured_and_by_what(run):
    page = certificate.page(certified(run, ("person-01",)))
    words = text(page)
    assert "Ada Moss is no longer recognised in photographs" in words
    for told in (
        "models:/unsee-embedded/2",
        "2" * 64,
        "vkd, seed 0",
        "4" * 64,
        "5" * 64,
        "run run",
        "Settings: unlearn",
    ):
        assert told in words
    assert ("Never saw them" in words) == ("retrained" in run.evaluations)


def test_what_was_not_decided_is_told_above_all_else(run):
    made = certified(run, ("person-01",))
    assert made["headline"] == "Ada Moss is no longer recognised in photographs, as far as was decided"
    (alone,) = [check for check in made["requirements"] if check["name"] == NOBODY]
    assert alone["passed"] is None
    words = text(certificate.page(made))
    told = f"Not decided: {alone['requirement']}. {alone['measured'].capitalize()}: {alone['reason']}."
    assert told in words.partition("What was measured")[0]
    decided = {**made, "requirements": [{**check, "passed": True} for check in made["requirements"]]}
    assert "Not decided" not in text(certificate.page(decided))


def test_a_request_that_was_not_honoured_is_told_with_the_reason(run):
    words = text(certificate.page(certified(run, ("person-01",), "not_honoured", ["Too much was lost"])))
    assert "Ada Moss is not known to be forgotten" in words
    assert "Too much was lost." in words
    assert "the model in service is the same as before" in words


def test_nothing_that_others_wrote_becomes_markup_and_nothing_is_fetched(run):
    page = certificate.page(certified(run, ("person-00",)))
    assert "<script" not in page
    assert "<b>" not in page
    assert not [e for e in Elements(page).found if {"src", "href"} & e[1].keys()]
