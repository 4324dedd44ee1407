"""What a model must meet before it becomes the champion: nobody who ever asked is recognised, and nobody else is lost.

Forgetting is measured against guessing, or against a model that never saw these people where one was built and answers
better than that. Luck is allowed for. Answering worse than guessing tells who was removed; that is shown, and does not
keep the people who asked waiting.
"""

from collections.abc import Sequence
from typing import Any

from unsee.report.checks import FORGET_LIMIT, Check, chance, loss_checks, value_of
from unsee.report.inputs import RunInputs
from unsee.report.people import NOBODY, VIEWS, answers, held, luck, nobody_check
from unsee.report.wording import points

SHOWN = {"heldout": "Photographs never used in training", "train": "Photographs used in training"}
ABOUT_THEM = (*VIEWS.values(), NOBODY)
"""The requirements about those who asked, by name."""


def requirements(run: RunInputs, summary: dict[str, Any]) -> tuple[Check, ...]:
    """What is required of the unlearned model, and what was measured."""
    return (*(_everybody(run, summary, view) for view in VIEWS), nobody_check(run), *loss_checks(run, summary))


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
    return held(check, measured.value - expected, expected, name, found.values())
