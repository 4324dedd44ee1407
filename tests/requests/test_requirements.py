"""A model becomes the champion if nobody who asked is recognised, beyond what luck gives, and nobody else is lost."""

import json
from types import SimpleNamespace

import made_run
import pytest
from made_run import Accuracies, make_run

from unsee.report.inputs import read_inputs
from unsee.report.people import NOBODY, answers, luck
from unsee.report.summary import build_summary
from unsee.requests.requirements import ABOUT_THEM, requirements, unmet


def checked(root, **variation):
    """The checks of a made run without an attack, by name."""
    arguments = make_run(root, **{"with_retrained": False, **variation})
    models = {name: arguments.pop(name) for name in ("vanilla", "retrained", "unlearned")}
    inputs = read_inputs(**{**arguments, "models": {k: v for k, v in models.items() if v}, "relearning": {}})
    found = requirements(inputs, build_summary(inputs))
    assert json.dumps([check.interval for check in found])
    return {check.name: check for check in found}, unmet(found)


def test_what_is_forgotten_without_loss_becomes_the_champion(tmp_path):
    checks, reasons = checked(tmp_path)
    assert reasons == []
    assert checks["forget/vqa/heldout_accuracy"].passed
    assert checks["retain/vqa/heldout_accuracy"].passed


@pytest.mark.parametrize(
    ("unlearned", "failing"),
    [
        (Accuracies(0.6, 0.96, 0.97), "forget/vqa/heldout_accuracy"),
        (Accuracies(0.26, 0.96, 0.97, forget_training=0.6), "forget/vqa/accuracy"),
        (Accuracies(0.26, 0.9, 0.97), "retain/vqa/heldout_accuracy"),
        (Accuracies(0.26, 0.96, 0.6), "realworld/vqa/heldout_accuracy"),
    ],
)
def test_each_requirement_alone_keeps_a_model_from_becoming_the_champion(tmp_path, unlearned, failing):
    checks, reasons = checked(tmp_path, unlearned=unlearned)
    assert checks[failing].passed is False
    assert any(reason.startswith(checks[failing].requirement) for reason in reasons)


def test_answers_worse_than_guessing_do_not_keep_people_waiting(tmp_path):
    checks, reasons = checked(tmp_path, unlearned=Accuracies(0.0, 0.96, 0.97))
    assert checks["forget/vqa/heldout_accuracy"].measured == "25 points below guessing"
    assert reasons == []


def test_where_a_model_that_never_saw_them_answers_better_than_guessing_it_is_the_measure(tmp_path):
    never = Accuracies(0.5, 0.96, 0.97)
    checks, reasons = checked(tmp_path, with_retrained=True, retrained=never, unlearned=Accuracies(0.6, 0.96, 0.97))
    assert checks["forget/vqa/heldout_accuracy"].measured.endswith("above a model that never saw them")
    assert reasons == []


def test_so_few_facts_that_luck_gives_them_all_are_no_measurement(tmp_path, monkeypatch):
    monkeypatch.setattr(made_run, "ATTRIBUTES", dict(list(made_run.ATTRIBUTES.items())[:2]))
    checks, reasons = checked(tmp_path, sizes={"forget": 1, "retain": 9})
    assert {checks[name].passed for name in ABOUT_THEM} == {None}
    assert checks["forget/vqa/heldout_accuracy"].measured.endswith("guessing")
    (reason,) = reasons
    assert reason.startswith("Whether they are still recognised is not decided: 2 different facts cannot tell")


def test_few_facts_about_each_of_many_decide_about_all_together(tmp_path):
    checks, reasons = checked(tmp_path)
    assert (checks["forget/vqa/heldout_accuracy"].passed, checks[NOBODY].passed) == (True, None)
    assert checks[NOBODY].reason == "3 different facts cannot tell knowledge from luck, which could give them all"
    assert reasons == []


@pytest.mark.parametrize("facts", [9, 45, 180])
@pytest.mark.parametrize("among", [1, 20])
def test_luck_is_what_guessing_exceeds_at_most_one_time_in_twenty(facts, among, rng):
    best = rng.binomial(facts, 0.25, (20_000, among)).max(axis=1) / facts
    limit = 0.25 + luck(0.25, facts, among)
    assert (best > limit + 1e-9).mean() < 0.055
    assert (best > limit - 1 / facts - 1e-9).mean() > 0.04


def person(name, correct):
    """One person's answers to nine questions about a held-out photograph, so many of them right."""
    common = {"split": "forget", "modality": "vqa", "view": "heldout", "entity_id": name}
    return [SimpleNamespace(**common, prompt=f"question {i}", correct=i < correct) for i in range(9)]


def test_answers_are_counted_by_person_and_facts_once():
    found = answers([*person("a", 3), *person("a", 9), *person("b", 0)], "heldout")
    assert (found["a"].right, found["a"].questions, found["a"].facts, found["b"].accuracy) == (12, 18, 9, 0.0)
    assert answers(person("a", 3), "train") == {}


@pytest.mark.parametrize(("best", "passed"), [(6, True), (8, False)])
def test_one_person_who_is_still_recognised_among_many_who_are_not_is_noticed(tmp_path, monkeypatch, best, passed):
    arguments = make_run(tmp_path, with_retrained=False)
    models = {"vanilla": arguments.pop("vanilla"), "unlearned": arguments.pop("unlearned")}
    del arguments["retrained"]
    inputs = read_inputs(**{**arguments, "models": models, "relearning": {}})
    others = [p for number in range(19) for p in person(f"other-{number}", 1)]
    rows = [SimpleNamespace(**{**vars(p), "options": ["a"] * 4}) for p in [*person("back", best), *others]]
    evaluations = {**inputs.evaluations, "unlearned": SimpleNamespace(predictions=rows, metrics={})}
    run = SimpleNamespace(**{**vars(inputs), "evaluations": evaluations})
    monkeypatch.setattr("unsee.requests.requirements.loss_checks", lambda *_: ())
    (check,) = [check for check in requirements(run, {"models": {}}) if check.name == NOBODY]
    assert check.passed is passed
