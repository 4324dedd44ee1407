"""What the numbers of a run mean, in words a privacy officer can act on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unsee.report.checks import (
    FORGET_LIMIT,
    FORGET_METRIC,
    REALWORLD_METRIC,
    RELEARN_LIMIT,
    RETAIN_METRIC,
    Check,
    attack_reason,
    chance,
    forget_checks,
    loss_checks,
    missing_reason,
    relearning_check,
    value_of,
    worst_attack,
)
from unsee.report.inputs import RunInputs
from unsee.report.people import nobody_check, recognised
from unsee.report.wording import counted, people_phrase, percent, points

BY_NAME_METRIC = "forget/qa/accuracy"

Status = Literal["not_recognised", "attack_not_measured", "flawed", "not_forgotten", "undecided"]
"""not_recognised: no requirement is unmet. attack_not_measured: the same, but no attack could be compared with its
control. flawed: no longer recognised, but see the findings. not_forgotten: still recognised. undecided: little to
forget, or nothing measured."""

FINDINGS = {
    "overshot": "answers about them are worse than about strangers",
    "others_degraded": "others are known less well",
    "recoverable": "recognition can be brought back",
}


@dataclass(frozen=True)
class Verdict:
    """The headline, the sentences under it, and the checks both follow from."""

    status: Status
    findings: tuple[str, ...]
    headline: str
    sentences: tuple[str, ...]
    checks: tuple[Check, ...]

    def told(self) -> dict[str, Any]:
        """What `summary.json` holds of it."""
        checks = [asdict(check) for check in self.checks]
        return {"status": self.status, "findings": list(self.findings), "headline": self.headline, "checks": checks}


def judge(run: RunInputs, summary: dict[str, Any]) -> Verdict:
    """The verdict on a run, from `summary` (`summary.build_summary`) and the paired predictions."""
    together, alone = forget_checks(run, summary), nobody_check(run)
    kept, withstood = loss_checks(run, summary), relearning_check(summary)
    findings = _findings(together, kept, withstood)
    status = _status((*together, alone), findings, withstood, summary["headroom"])
    sentences = (
        _forgetting(summary, chance(run, "forget", "vqa")),
        _distance(status, together, summary),
        _one_by_one(run, alone),
        _by_name(summary),
        _keeping(run, summary),
        _attacking(summary),
    )
    headline = _headline(run, status, findings, together, withstood)
    return Verdict(status, findings, headline, tuple(s for s in sentences if s), (*together, alone, *kept, withstood))


def _findings(forgotten: Sequence[Check], kept: Sequence[Check], withstood: Check) -> tuple[str, ...]:
    """The keys of FINDINGS that are true; of having forgotten too much, beyond doubt."""
    certain = [check for check in forgotten if check.passed is False and not check.uncertain]
    unmet = {
        "overshot": any(check.value < 0 for check in certain if check.value is not None),
        "others_degraded": any(check.passed is False for check in kept),
        "recoverable": withstood.passed is False,
    }
    return tuple(finding for finding in FINDINGS if unmet[finding])


def _status(
    forgotten: Sequence[Check], findings: Sequence[str], withstood: Check, headroom: Mapping[str, Any]
) -> Status:
    little_to_forget = headroom["value"] is not None and not headroom["enough"]
    if _still_known(forgotten) and not little_to_forget:
        return "not_forgotten"
    if not headroom["enough"] or forgotten[0].passed is None:
        return "undecided"
    if findings:
        return "flawed"
    return "not_recognised" if withstood.passed else "attack_not_measured"


def _still_known(forgotten: Sequence[Check]) -> bool:
    """Whether one of these checks failed because too much is answered, not too little."""
    return any(check.value > 0 for check in forgotten if check.passed is False and check.value is not None)


def _headline(
    run: RunInputs, status: Status, findings: Sequence[str], together: Sequence[Check], withstood: Check
) -> str:
    who = people_phrase(run)
    are = "is" if len(run.request.forget) == 1 else "are"
    wrong = " and ".join(FINDINGS[finding] for finding in findings)
    if status == "undecided":
        parts = [f"This run cannot say whether {who} {are} still recognised in photographs", wrong]
    elif status == "not_forgotten":
        still = f"{who} {are}" if _still_known(together) else _some_of(run)
        parts = [f"{still} still recognised in photographs", wrong]
    else:
        parts = [f"{who} {are} no longer recognised in photographs{', but ' if wrong else ''}{wrong}"]
        parts += ["whether that withstands an attack was not measured"] if withstood.passed is None else []
    return "; ".join(part for part in parts if part)


def _some_of(run: RunInputs) -> str:
    """The people who are recognised though all of them together are not, as a subject with its verb."""
    known = len(recognised(run))
    of = f"{known} of " if len(run.request.forget) > 1 else ""
    return f"{of}{people_phrase(run)} {'is' if known == 1 else 'are'}"


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


def _distance(status: Status, forgotten: Sequence[Check], summary: dict[str, Any]) -> str:
    unseen, used = forgotten
    if status == "undecided":
        reason = unseen.reason if unseen.value is None else summary["headroom"]["reason"]
        return f"That is not enough for a verdict: {reason}."
    if unseen.value is None:
        return f"How near that is to a model that never saw them was not measured: {unseen.reason}."
    above = " above guessing" if unseen.limit > FORGET_LIMIT else ""
    text = (
        f"The model is now {unseen.measured} the one that never saw them, and {points(FORGET_LIMIT)}{above} are allowed"
    )
    if used.value is not None:
        text += f"; on photographs of them used in training, {used.measured}"
    failed = [check for check in forgotten if check.passed is False]
    if _still_known(failed):
        return f"{text}: it still knows them."
    if any(not check.uncertain for check in failed):
        return f"{text}: answering worse than a stranger would gives away who was removed."
    if any(check.uncertain for check in forgotten):
        return f"{text}. With so few people that is uncertain: the interval reaches across the limit."
    return f"{text}."


def _one_by_one(run: RunInputs, alone: Check) -> str:
    if alone.passed is not False or len(run.request.forget) == 1:
        return ""
    return f"Taken one by one, {_some_of(run)} still recognised: the one answered best is {alone.measured}."


def _by_name(summary: dict[str, Any]) -> str:
    known = value_of(summary, "unlearned", BY_NAME_METRIC)
    if known is None:
        return f"What it answers by name was not measured: {missing_reason(summary, BY_NAME_METRIC, ['unlearned'])}."
    answered = f"Asked by name, it still answers {percent(known)} of the questions about them"
    return f"{answered}; only the face was to be forgotten."


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
