"""The people to be forgotten one by one: a mean over people can hide one who is still recognised.

A model that takes a person for someone else gives all questions about one fact the same answer, so it is facts that are
independent, not questions: over the people of a benchmark, the accuracies of models that never saw them have standard
deviations of 12 and 13 points where guessing nine facts has 14. Luck with so many of them is allowed for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scipy.stats import binom

from unsee.evaluation.metrics import Prediction
from unsee.report.checks import FORGET_LIMIT, FORGET_METRIC, FORGET_TRAINING_METRIC, ROUNDING, Check, chance
from unsee.report.inputs import RunInputs
from unsee.report.wording import counted, points

BY_CHANCE = 0.05
VIEWS = {"heldout": FORGET_METRIC, "train": FORGET_TRAINING_METRIC}
NOBODY = "forget/vqa/person_accuracy"


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


def nobody_check(run: RunInputs) -> Check:
    """The person who is answered best, on photographs of either view."""
    found, what = _one_by_one(run), "Taken one by one, nobody is still recognised"
    if not found:
        return Check(NOBODY, what, FORGET_LIMIT, reason="no such question was asked")
    best = max(found, key=lambda each: each.answers.accuracy - each.expected - each.limit)
    requirement = (
        f"{what}: the one answered best is at most {points(best.limit)} above {best.name}, as the luckiest of "
        f"{len(found)} guessers may be, with {points(FORGET_LIMIT)} more"
    )
    check = Check(NOBODY, requirement, best.limit)
    return held(check, best.answers.accuracy - best.expected, best.expected, best.name, [best.answers])


def recognised(run: RunInputs) -> list[str]:
    """Ids of the people who are answered better than luck could, on photographs of either view."""
    return sorted({e.person for e in _one_by_one(run) if e.answers.accuracy > e.expected + e.limit + ROUNDING})


@dataclass(frozen=True)
class _Person:
    """One person's answers on photographs of one view.

    expected: the accuracy of who never saw the person, whose `name` it is. limit: how far above that is still luck.
    """

    person: str
    answers: Answers
    expected: float
    name: str
    limit: float


def _one_by_one(run: RunInputs) -> list[_Person]:
    guessing = chance(run, "forget", "vqa")
    if guessing is None:
        return []
    asked = {view: answers(run.evaluations["unlearned"].predictions, view) for view in VIEWS}
    reference = run.evaluations.get("retrained")
    never = {view: answers(reference.predictions, view) if reference else {} for view in VIEWS}
    among, found = sum(map(len, asked.values())), []
    for view in VIEWS:
        for person, each in asked[view].items():
            known = never[view][person].accuracy if person in never[view] else 0.0
            expected, name = max((guessing, "guessing"), (known, "a model that never saw them"))
            limit = FORGET_LIMIT + luck(expected, each.facts, among)
            found.append(_Person(person, each, expected, name, limit))
    return found


def held(check: Check, value: float, expected: float, than: str, asked: Iterable[Answers]) -> Check:
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
