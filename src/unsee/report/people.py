"""The people to be forgotten one by one: a mean over people can hide one who is still recognised.

A model that takes a person for someone else gives all questions about one fact the same answer, so it is facts that are
independent, not questions; luck with so many of them is allowed for.
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
    guessing, found = chance(run, "forget", "vqa"), _one_by_one(run)
    what = "Nobody among them is recognised alone"
    if not found or guessing is None:
        return Check(NOBODY, what, FORGET_LIMIT, reason="no such question was asked")
    _, best, limit = max(found, key=lambda each: each[1].accuracy - each[2])
    requirement = (
        f"{what}: the one answered best as by the luckiest of {len(found)} guessers, and {points(FORGET_LIMIT)}"
    )
    return held(Check(NOBODY, requirement, limit - guessing), best.accuracy - guessing, guessing, "guessing", [best])


def recognised(run: RunInputs) -> list[str]:
    """Ids of the people who are answered better than luck could, on photographs of either view."""
    return sorted({person for person, each, limit in _one_by_one(run) if each.accuracy > limit + ROUNDING})


def _one_by_one(run: RunInputs) -> list[tuple[str, Answers, float]]:
    """Every person, with the answers on photographs of each view, and the accuracy that is allowed."""
    guessing, predictions = chance(run, "forget", "vqa") or 0.0, run.evaluations["unlearned"].predictions
    found = [each for view in VIEWS for each in answers(predictions, view).items()]
    return [(person, a, guessing + FORGET_LIMIT + luck(guessing, a.facts, len(found))) for person, a in found]


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
