"""What the numbers of a run mean, in words a privacy officer can act on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unsee.report.checks import (
    FORGET_LIMIT,
    FORGET_METRIC,
    REALWORLD_METRIC,
    RELEARN_LIMIT,
    RETAIN_METRIC,
    Check,
    attack_reason,
    forget_check,
    loss_checks,
    missing_reason,
    relearning_check,
    value_of,
    worst_attack,
)
from unsee.report.inputs import RunInputs
from unsee.report.wording import counted, people_phrase, percent, points

Status = Literal["forgotten", "not_forgotten", "harmed", "recoverable", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The headline, the sentences under it, and the checks both follow from."""

    status: Status
    headline: str
    sentences: tuple[str, ...]
    checks: tuple[Check, ...]


def judge(run: RunInputs, summary: dict[str, Any]) -> Verdict:
    """The verdict on a run, from `summary` (`summary.build_summary`) and the paired predictions."""
    forgotten, kept, withstood = forget_check(run, summary), loss_checks(run, summary), relearning_check(summary)
    status = _status(forgotten, kept, withstood, summary["headroom"]["enough"])
    sentences = (
        f"{_subject(run)} to be forgotten.",
        _forgetting(summary, chance(run, "forget", "vqa")),
        _distance(status, forgotten, summary),
        _keeping(run, summary),
        _attacking(summary),
    )
    return Verdict(status, _headline(run, status), tuple(s for s in sentences if s), (forgotten, *kept, withstood))


def chance(run: RunInputs, split: str, modality: str) -> float | None:
    """Accuracy of guessing among the options of these questions; None when they have no options."""
    predictions = run.evaluations["unlearned"].predictions
    sizes = [len(p.options) for p in predictions if p.options and (p.split, p.modality) == (split, modality)]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else None


def _status(forgotten: Check, kept: Sequence[Check], withstood: Check, enough_headroom: bool) -> Status:
    if not enough_headroom or forgotten.passed is None:
        return "undecided"
    if not forgotten.passed:
        return "not_forgotten"
    if any(check.passed is False for check in kept):
        return "harmed"
    return "recoverable" if withstood.passed is False else "forgotten"


def _subject(run: RunInputs) -> str:
    return f"{people_phrase(run)} {'was' if len(run.request.forget) == 1 else 'were'}"


def _headline(run: RunInputs, status: Status) -> str:
    return {
        "forgotten": f"{_subject(run)} forgotten",
        "not_forgotten": f"{_subject(run)} not forgotten as asked",
        "harmed": f"{_subject(run)} forgotten, but others were harmed",
        "recoverable": f"{_subject(run)} forgotten, but the knowledge can be brought back",
        "undecided": f"This run cannot say whether {_subject(run)} forgotten",
    }[status]


def _forgetting(summary: dict[str, Any], guessing: float | None) -> str:
    before, after, never = (value_of(summary, model, FORGET_METRIC) for model in ("vanilla", "unlearned", "retrained"))
    if before is None or after is None:
        reason = missing_reason(summary, FORGET_METRIC, ("vanilla", "unlearned"))
        return f"What the model answers about unseen photographs of them was not measured: {reason}."
    text = (
        "Shown photographs of them that it had never seen, the model used to answer "
        f"{percent(before)} of the questions correctly; now it answers {percent(after)}."
    )
    others = [] if never is None else [f"a model that never saw them answers {percent(never)}"]
    others += [] if guessing is None else [f"guessing gives {percent(guessing)}"]
    comparison = ", and ".join(others)
    return f"{text} {comparison[:1].upper()}{comparison[1:]}." if comparison else text


def _distance(status: Status, forgotten: Check, summary: dict[str, Any]) -> str:
    if status == "undecided" or forgotten.value is None:
        return f"That is not enough for a verdict: {forgotten.reason or summary['headroom']['reason']}."
    apart = points(abs(forgotten.value))
    if forgotten.passed:
        return f"The two are {apart} apart, and {points(FORGET_LIMIT)} are allowed."
    if forgotten.value > 0:
        return f"That is {apart} above such a model, and {points(FORGET_LIMIT)} are allowed: it still knows them."
    return (
        f"That is {apart} below such a model, and {points(FORGET_LIMIT)} are allowed: "
        "answering worse than a stranger would gives away who was removed."
    )


def _keeping(run: RunInputs, summary: dict[str, Any]) -> str:
    groups = {
        RETAIN_METRIC: counted(len(run.request.retain), "person who stays", "people who stay"),
        REALWORLD_METRIC: counted(len(run.request.realworld), "real-world person", "real-world people"),
    }
    kept = []
    for metric, who in groups.items():
        before, after = (value_of(summary, model, metric) for model in ("vanilla", "unlearned"))
        if before is not None and after is not None:
            kept.append(f"{percent(after)} for the {who} (before: {percent(before)})")
    return f"On unseen photographs of others it answers {' and '.join(kept)}." if kept else ""


def _attacking(summary: dict[str, Any]) -> str:
    worst = worst_attack(summary)
    if worst is None:
        return f"Whether the knowledge can be brought back was not measured: {attack_reason(summary)}."
    if worst.beyond <= 0:
        return (
            "Retraining on some of their photographs brought back no more than it teaches a model that never saw them."
        )
    return (
        f"Retraining on some of their photographs brought back up to {points(worst.beyond)} more than it teaches a "
        f"model that never saw them; {points(RELEARN_LIMIT)} are allowed."
    )
