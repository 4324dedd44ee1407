"""What a model must meet before it becomes the champion: nobody who ever asked is recognised, and nobody else is lost.

Forgetting is measured against guessing, or against a model that never saw these people where one was built and answers
better than that. Luck is allowed for. A model that takes a person for someone else gives all questions about one fact
the same answer, so it is facts that are independent, not questions: over the people of a benchmark, the accuracies of
models that never saw them have standard deviations of 12 and 13 points where guessing nine facts has 14. Answering
worse than guessing tells who was removed; that is shown, and does not keep the people who asked waiting.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import binom

from unsee.evaluation.metrics import Prediction
from unsee.report.checks import (
    FORGET_LIMIT,
    FORGET_METRIC,
    FORGET_TRAINING_METRIC,
    ROUNDING,
    Check,
    chance,
    loss_checks,
    value_of,
)
from unsee.report.inputs import RunInputs
from unsee.report.wording import counted, points

BY_CHANCE = 0.05
VIEWS = {"heldout": FORGET_METRIC, "train": FORGET_TRAINING_METRIC}
SHOWN = {"heldout": "Photographs never used in training", "train": "Photographs used in training"}
NOBODY = "forget/vqa/person_accuracy"
ABOUT_THEM = (*VIEWS.values(), NOBODY)
"""The requirements about those who asked, by name."""


@dataclass(frozen=True)
class Answers:
    """How one person's questions were answered, over photographs of one view. facts: different questions among them."""

    right: int
    questions: int
    facts: int

    @property
    def accuracy(self) -> float:
        """Share of the questions that were answered right."""
        return self.right / self.questions


def answers(predictions: Sequence[Prediction], view: str) -> dict[str, Answers]:
    """The multiple-choice answers about each person to be forgotten, by id."""
    asked: dict[str, list[Prediction]] = defaultdict(list)
    for p in predictions:
        if (p.split, p.modality, p.view) == ("forget", "vqa", view) and p.correct is not None:
            asked[p.entity_id].append(p)
    return {
        person: Answers(sum(bool(p.correct) for p in rows), len(rows), len({p.prompt for p in rows}))
        for person, rows in asked.items()
    }


def luck(guessing: float, facts: int, among: int = 1) -> float:
    """How far above its mean guessing so many facts comes, at most one time in twenty; by any of `among` guessers."""
    return float(binom.isf(BY_CHANCE / among, facts, guessing)) / facts - guessing


def requirements(run: RunInputs, summary: dict[str, Any]) -> tuple[Check, ...]:
    """What is required of the unlearned model, and what was measured."""
    return (*(_everybody(run, summary, view) for view in VIEWS), _nobody(run), *loss_checks(run, summary))


def unmet(checks: Sequence[Check]) -> list[str]:
    """Why a model must not become the champion, one sentence each; none: it may."""
    reasons = [f"{check.requirement}; measured: {check.measured}" for check in checks if check.passed is False]
    together = [check for check in checks if check.name in VIEWS.values()]
    if all(check.passed is None for check in together):
        why = "; ".join(dict.fromkeys(check.reason or "" for check in together))
        reasons.append(f"Whether they are still recognised is not decided: {why}")
    return reasons


def _everybody(run: RunInputs, summary: dict[str, Any], view: str) -> Check:
    """The people together, on photographs of a view."""
    metric, guessing = VIEWS[view], chance(run, "forget", "vqa")
    found = answers(run.evaluations["unlearned"].predictions, view)
    measured = run.evaluations["unlearned"].metrics.get(metric)
    what = f"{SHOWN[view]}: answers about the forgotten are as by"
    if not found or measured is None or measured.value is None or guessing is None:
        return Check(metric, f"{what} guessing", FORGET_LIMIT, reason="no such question was asked")
    never = value_of(summary, "retrained", metric) or 0.0
    name = "a model that never saw them" if never > guessing else "guessing"
    by_luck, expected = luck(guessing, sum(each.facts for each in found.values())), max(guessing, never)
    requirement = f"{what} {name}, within {points(FORGET_LIMIT)} and {points(by_luck)} of luck"
    low, high = (None if bound is None else bound - expected for bound in (measured.low, measured.high))
    one = "one person: no interval over people can be given" if low is None else None
    check = Check(metric, requirement, FORGET_LIMIT + by_luck, low=low, high=high, reason=one)
    return _held(check, measured.value - expected, expected, name, found.values())


def _nobody(run: RunInputs) -> Check:
    """The person who is answered best, on photographs of either view."""
    guessing, predictions = chance(run, "forget", "vqa"), run.evaluations["unlearned"].predictions
    found = [each for view in VIEWS for each in answers(predictions, view).values()]
    what = "None of them is recognised alone"
    if not found or guessing is None:
        return Check(NOBODY, what, FORGET_LIMIT, reason="no such question was asked")
    limits = {each: FORGET_LIMIT + luck(guessing, each.facts, len(found)) for each in found}
    best = max(found, key=lambda each: each.accuracy - limits[each])
    requirement = (
        f"{what}: the one answered best as by the luckiest of {len(found)} guessers, and {points(FORGET_LIMIT)}"
    )
    return _held(Check(NOBODY, requirement, limits[best]), best.accuracy - guessing, guessing, "guessing", [best])


def _held(check: Check, value: float, expected: float, than: str, asked: Iterable[Answers]) -> Check:
    """The check of a value above what is expected; open where so few facts were asked that luck could give them all."""
    words = f"{points(abs(value))} {'above' if value >= 0 else 'below'} {than}"
    if expected + check.limit >= 1:
        facts = counted(sum(each.facts for each in asked), "different fact", "different facts")
        reason = f"{facts} cannot tell knowledge from luck, which could give them all"
        return replace(check, value=value, measured=words, reason=reason)
    return replace(
        check,
        value=value,
        measured=words,
        passed=value <= check.limit + ROUNDING,
        uncertain=check.low is not None and check.high is not None and check.low < check.limit < check.high,
    )
