"""The headline says what was found: neither more than was measured, nor less than the worst of it."""

import json
import re
from pathlib import Path
from typing import Any

import made_run
import pytest
from made_run import Accuracies, Reported, reported
from pages import text

FACES = Accuracies(0.26, 0.96, 0.97)


def checks(run: Reported) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in run.summary["verdict"]["checks"]}


def test_what_meets_every_requirement_is_no_longer_recognised(success: Reported) -> None:
    verdict = success.summary["verdict"]
    assert verdict["status"] == "not_recognised"
    assert verdict["headline"] == "6 people are no longer recognised in photographs"
    assert list(checks(success)) == [
        "forget/vqa/heldout_accuracy",
        "forget/vqa/accuracy",
        "forget/vqa/person_accuracy",
        "retain/vqa/heldout_accuracy",
        "realworld/vqa/heldout_accuracy",
        "retain/qa_with_face/accuracy",
        "relearning",
    ]
    assert all(check["passed"] and not check["uncertain"] for check in verdict["checks"] if check["reason"] is None)
    (open_check,) = [check for check in verdict["checks"] if check["reason"]]
    assert (open_check["name"], open_check["passed"]) == ("forget/vqa/person_accuracy", None)
    assert open_check["reason"].startswith("3 different facts cannot tell knowledge from luck")


def test_the_page_shows_the_verdict_of_the_summary(failure: Reported) -> None:
    words = text(failure.html)
    assert f'<h1 class="{failure.summary["verdict"]["status"]}">' in failure.html
    assert failure.summary["verdict"]["headline"] in words
    assert all(check["requirement"] in words and check["measured"] in words for check in checks(failure).values())


@pytest.fixture
def nine_facts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The sizes of a run in which nine facts are asked about each of twenty people."""
    monkeypatch.setattr(made_run, "ATTRIBUTES", {f"Question {number}?": list("abcdefgh") for number in range(9)})
    return {"forget": 20, "retain": 9, "realworld": 3}


ONE_KNOWN = Accuracies(0.23, 0.96, 0.97, always="person-00")


@pytest.mark.parametrize("with_retrained", [True, False])
def test_one_who_is_still_recognised_is_not_hidden_by_the_others(with_retrained, nine_facts, tmp_path: Path) -> None:
    run = reported(tmp_path, unlearned=ONE_KNOWN, sizes=nine_facts, with_retrained=with_retrained)
    assert checks(run)["forget/vqa/heldout_accuracy"]["passed"] is (True if with_retrained else None)
    alone = checks(run)["forget/vqa/person_accuracy"]
    assert "as the luckiest of 40 guessers may be, with 5 points more" in alone["requirement"]
    assert alone["passed"] is False
    assert run.summary["verdict"]["status"] == "not_forgotten"
    assert run.summary["verdict"]["headline"].startswith("1 of 20 people is still recognised in photographs")
    assert "Taken one by one, 1 of 20 people is still recognised: the one answered best is 7" in text(run.html)


def test_who_is_answered_as_by_a_model_that_never_saw_them_is_not_recognised(nine_facts, tmp_path: Path) -> None:
    run = reported(tmp_path, unlearned=ONE_KNOWN, retrained=ONE_KNOWN, sizes=nine_facts)
    assert run.summary["verdict"]["headline"] == "20 people are no longer recognised in photographs"


@pytest.mark.parametrize("name", ["success", "failure", "one_person", "one_person_compared"])
def test_what_is_still_answered_by_name_is_said(name: str, request: pytest.FixtureRequest) -> None:
    run: Reported = request.getfixturevalue(name)
    known = f"{100 * run.summary['models']['unlearned']['forget/qa/accuracy']:.0f} %"
    sentence = f"Asked by name, it still answers {known} of the questions about them"
    assert f"{sentence}; only the face was to be forgotten." in text(run.html)


def test_without_an_attack_nobody_says_that_it_would_be_withstood(one_person_compared: Reported) -> None:
    assert one_person_compared.summary["verdict"]["status"] == "attack_not_measured"
    assert one_person_compared.summary["verdict"]["headline"] == (
        "Ada Moss is no longer recognised in photographs; whether that withstands an attack was not measured"
    )
    attack = checks(one_person_compared)["relearning"]
    assert (attack["passed"], attack["value"]) == (None, None)
    assert "10 people are needed" in attack["reason"]


def test_one_person_has_measured_requirements_without_interval(one_person_compared: Reported) -> None:
    check = checks(one_person_compared)["forget/vqa/heldout_accuracy"]
    assert (check["passed"], check["low"], check["high"], check["uncertain"]) == (True, None, None, False)
    assert "0 points above one person: no interval over people can be given" in text(one_person_compared.html)


@pytest.mark.parametrize(
    ("unlearned", "relearned", "findings", "ending"),
    [
        (FACES, 0.7, ["recoverable"], ", but recognition can be brought back"),
        (Accuracies(0.26, 0.8, 0.97), 0.4, ["others_degraded"], ", but others are known less well"),
        (
            Accuracies(0.26, 0.8, 0.97), 0.7, ["others_degraded", "recoverable"],
            ", but others are known less well and recognition can be brought back",
        ),
        (
            Accuracies(0.26, 0.8, 0.97), None, ["others_degraded"],
            ", but others are known less well; whether that withstands an attack was not measured",
        ),
    ],
)  # fmt: skip
def test_every_finding_is_named(
    unlearned: Accuracies, relearned: float | None, findings: list[str], ending: str, tmp_path: Path
) -> None:
    verdict = reported(tmp_path, unlearned=unlearned, relearned=relearned).summary["verdict"]
    assert (verdict["status"], verdict["findings"]) == ("flawed", findings)
    assert verdict["headline"] == f"6 people are no longer recognised in photographs{ending}"


def test_what_was_not_forgotten_does_not_hide_the_rest(failure: Reported) -> None:
    assert failure.summary["verdict"]["status"] == "not_forgotten"
    assert failure.summary["verdict"]["headline"] == (
        "6 people are still recognised in photographs; others are known less well and recognition can be brought back"
    )


@pytest.mark.parametrize(
    ("training", "status", "findings", "words"),
    [
        (0.9, "not_forgotten", [], "on photographs of them used in training, 63.9 points above: it still knows them."),
        (
            0.0, "flawed", ["overshot"],
            "on photographs of them used in training, 25 points below: answering worse than a stranger would",
        ),
    ],
)  # fmt: skip
def test_photographs_used_in_training_count_as_well(
    training: float, status: str, findings: list[str], words: str, tmp_path: Path
) -> None:
    run = reported(tmp_path, unlearned=Accuracies(0.26, 0.96, 0.97, forget_training=training))
    verdict = run.summary["verdict"]
    assert (verdict["status"], verdict["findings"]) == (status, findings)
    assert checks(run)["forget/vqa/heldout_accuracy"]["passed"] is True
    assert checks(run)["forget/vqa/accuracy"]["passed"] is False
    assert words in text(run.html)


def test_worse_than_a_stranger_is_a_finding_only_beyond_doubt(tmp_path: Path) -> None:
    sizes = {"forget": 12, "retain": 9, "realworld": 3}
    run = reported(tmp_path, sizes=sizes, unlearned=Accuracies(0.26, 0.96, 0.97, forget_training=0.18))
    check = checks(run)["forget/vqa/accuracy"]
    assert check["value"] < -0.05
    assert (check["passed"], check["uncertain"]) == (False, True)
    assert run.summary["verdict"]["findings"] == []


def test_an_interval_across_the_limit_is_uncertain(tmp_path: Path) -> None:
    run = reported(tmp_path, sizes={"forget": 12, "retain": 9, "realworld": 3}, unlearned=Accuracies(0.28, 0.96, 0.97))
    check = checks(run)["forget/vqa/heldout_accuracy"]
    assert check["passed"] is True
    assert check["low"] < -check["limit"] < check["value"] < check["limit"] < check["high"]
    assert check["uncertain"] is True
    words = text(run.html)
    assert re.search(r"2\.8 points above 95 % interval -\d\.\d to \+\d+\.\d, across the limit met uncertain", words)
    assert "With so few people that is uncertain: the interval reaches across the limit." in words


@pytest.mark.parametrize(("forget", "status"), [(0.28, "attack_not_measured"), (0.5, "not_forgotten")])
def test_guessing_is_no_knowledge_though_the_retrained_model_answers_worse(
    forget: float, status: str, tmp_path: Path
) -> None:
    never = Accuracies(0.1, 0.96, 0.97)
    run = reported(tmp_path, retrained=never, unlearned=Accuracies(forget, 0.96, 0.97), relearned=None)
    check = checks(run)["forget/vqa/heldout_accuracy"]
    assert run.summary["verdict"]["status"] == status
    assert check["passed"] is (status != "not_forgotten")
    assert check["value"] > 0.05
    assert check["requirement"].endswith("within 5 points of it or of guessing")
    assert "and 5 points above guessing are allowed" in text(run.html)


def test_too_little_to_forget_is_undecided(tmp_path: Path) -> None:
    run = reported(tmp_path, vanilla=Accuracies(0.3, 0.9, 0.9))
    assert run.summary["verdict"]["status"] == "undecided"
    assert run.summary["verdict"]["headline"] == (
        "This run cannot say whether 6 people are still recognised in photographs"
    )


def test_the_verdict_can_be_read_by_programs(one_person: Reported) -> None:
    """No NaN or infinity, which JSON does not have."""
    told = json.dumps(one_person.summary["verdict"], allow_nan=False)
    assert json.loads(told)["status"] == "undecided"
