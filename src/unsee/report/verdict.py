"""What the numbers of a run mean, in words a privacy officer can act on.

The thresholds are this project's own. Forgetting is judged by the distance to the model that never saw the people, in
both directions: answering *worse* than such a model gives away who was removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unsee.report.inputs import RunInputs
from unsee.report.intervals import Difference, accuracy_difference
from unsee.report.wording import people_phrase, percent, points

FORGET_LIMIT = 0.05
RETAIN_LIMIT = 0.03
REALWORLD_LIMIT = 0.05
FACE_LIMIT = 0.03
RELEARN_LIMIT = 0.10
ROUNDING = 1e-9

Status = Literal["forgotten", "not_forgotten", "harmed", "recoverable", "undecided"]


@dataclass(frozen=True)
class Check:
    """One requirement: `passed` is None when it could not be measured, for the `reason`."""

    requirement: str
    measured: str | None
    interval: str | None
    passed: bool | None
    reason: str | None


@dataclass(frozen=True)
class Verdict:
    """The headline, the paragraph under it, and the checks both follow from."""

    status: Status
    headline: str
    sentences: tuple[str, ...]
    checks: tuple[Check, ...]


def judge(run: RunInputs, summary: dict[str, Any]) -> Verdict:
    """The verdict on a run."""
    checks = _checks(run, summary)
    status = _status(checks, summary["headroom"]["enough"])
    sentences = [_subject(run), _forgetting(summary, chance(run, "forget")), *_conclusion(status, checks, summary)]
    sentences += [_keeping(run, summary), _attacking(summary)]
    return Verdict(status, _headline(run, status), tuple(sentence for sentence in sentences if sentence), tuple(checks))


def chance(run: RunInputs, split: str, modality: str = "vqa") -> float | None:
    """Accuracy of guessing among the options of this split's questions."""
    predictions = run.evaluations["unlearned"].predictions
    sizes = [len(p.options) for p in predictions if p.options and (p.split, p.modality) == (split, modality)]
    return sum(1 / size for size in sizes) / len(sizes) if sizes else None


def _checks(run: RunInputs, summary: dict[str, Any]) -> list[Check]:
    return [
        _forget_check(run, summary),
        _loss_check(
            run, summary, "retain/vqa/heldout_accuracy", "The people who stay are still recognised", RETAIN_LIMIT
        ),
        _loss_check(
            run, summary, "realworld/vqa/heldout_accuracy", "Real-world people are still recognised", REALWORLD_LIMIT
        ),
        _loss_check(
            run,
            summary,
            "retain/qa_with_face/accuracy",
            "Facts asked by name beside a portrait are still right for the people who stay",
            FACE_LIMIT,
        ),
        _relearning_check(summary),
    ]


def _forget_check(run: RunInputs, summary: dict[str, Any]) -> Check:
    name = "forget/vqa/heldout_accuracy"
    requirement = f"Unseen photographs of the forgotten are answered as by a model that never saw them, within {points(FORGET_LIMIT)}"
    unlearned, retrained = (_value(summary, model, name) for model in ("unlearned", "retrained"))
    if unlearned is None or retrained is None:
        return Check(requirement, None, None, None, _reason(summary, name, ("unlearned", "retrained")))
    difference = unlearned - retrained
    side = "above" if difference >= 0 else "below"
    interval = _interval(_paired(run, "unlearned", "retrained", name))
    return Check(
        requirement, f"{points(abs(difference))} {side}", interval, abs(difference) <= FORGET_LIMIT + ROUNDING, None
    )


def _loss_check(run: RunInputs, summary: dict[str, Any], name: str, what: str, limit: float) -> Check:
    requirement = f"{what}: at most {points(limit)} lost"
    before, after = (_value(summary, model, name) for model in ("vanilla", "unlearned"))
    if before is None or after is None:
        return Check(requirement, None, None, None, _reason(summary, name, ("vanilla", "unlearned")))
    lost = before - after
    measured = f"{points(abs(lost))} {'lost' if lost >= 0 else 'gained'}"
    return Check(
        requirement, measured, _interval(_paired(run, "vanilla", "unlearned", name)), lost <= limit + ROUNDING, None
    )


def _relearning_check(summary: dict[str, Any]) -> Check:
    requirement = f"Retraining on some of their photographs wins back at most {points(RELEARN_LIMIT)} more than on a model that never saw them"
    worst = worst_attack(summary)
    if worst is None:
        return Check(requirement, None, None, None, _attack_reason(summary))
    sampling, share, beyond = worst
    measured = f"{points(abs(beyond))} {'more' if beyond >= 0 else 'less'} ({share} % of the {_SAMPLED[sampling]})"
    return Check(requirement, measured, None, beyond <= RELEARN_LIMIT + ROUNDING, None)


def worst_attack(summary: dict[str, Any]) -> tuple[str, str, float] | None:
    """(sampling, percentage, gap beyond the control) of the attack that won most, None when none was measured."""
    found = [
        (entry["gap_beyond_control"], sampling, share)
        for sampling, entries in summary["relearning"].items()
        for share, entry in entries.items()
        if entry["gap_beyond_control"] is not None
    ]
    if not found:
        return None
    beyond, sampling, share = max(found)
    return sampling, share, beyond


def _status(checks: Sequence[Check], enough_headroom: bool) -> Status:
    forgotten, *kept, withstood = checks
    if not enough_headroom or forgotten.passed is None:
        return "undecided"
    if not forgotten.passed:
        return "not_forgotten"
    if any(check.passed is False for check in kept):
        return "harmed"
    return "recoverable" if withstood.passed is False else "forgotten"


def _headline(run: RunInputs, status: Status) -> str:
    who = people_phrase(run)
    verb = "was" if len(run.request.forget) == 1 else "were"
    return {
        "forgotten": f"{who} {verb} forgotten",
        "not_forgotten": f"{who} {verb} not forgotten as asked",
        "harmed": f"{who} {verb} forgotten, but others were harmed",
        "recoverable": f"{who} {verb} forgotten, but the knowledge can be brought back",
        "undecided": f"This run cannot say whether {who} {verb} forgotten",
    }[status]


def _subject(run: RunInputs) -> str:
    verb = "was" if len(run.request.forget) == 1 else "were"
    return f"{people_phrase(run)} {verb} to be forgotten."


def _forgetting(summary: dict[str, Any], guessing: float | None) -> str:
    name = "forget/vqa/heldout_accuracy"
    before, after, never = (_value(summary, model, name) for model in ("vanilla", "unlearned", "retrained"))
    if before is None or after is None:
        return f"What the model answers about unseen photographs was not measured: {_reason(summary, name, ('vanilla', 'unlearned'))}."
    text = (
        f"Asked about photographs it had never seen, the model used to answer {percent(before)} of the questions "
        f"correctly and now answers {percent(after)}"
    )
    if never is not None:
        text += f"; a model that never saw them answers {percent(never)}"
    return f"{text}, and guessing gives {percent(guessing)}." if guessing is not None else f"{text}."


def _conclusion(status: Status, checks: Sequence[Check], summary: dict[str, Any]) -> list[str]:
    forgotten = checks[0]
    if status == "undecided":
        reason = forgotten.reason or summary["headroom"]["reason"]
        return [f"That is not enough for a verdict: {reason}."]
    if forgotten.passed:
        return [
            f"The two are {(forgotten.measured or '').rpartition(' ')[0]} apart, within the {points(FORGET_LIMIT)} allowed."
        ]
    if (forgotten.measured or "").endswith("below"):
        return [
            f"That is {forgotten.measured} such a model, more than the {points(FORGET_LIMIT)} allowed: "
            "answering worse than a stranger would gives away who was removed."
        ]
    return [
        f"That is {forgotten.measured} such a model, more than the {points(FORGET_LIMIT)} allowed: it still knows them."
    ]


def _keeping(run: RunInputs, summary: dict[str, Any]) -> str:
    kept = []
    people = {"retain": len(run.request.retain), "realworld": len(run.request.realworld)}
    for split, words in (("retain", "people who stay"), ("realworld", "real-world people")):
        before, after = (_value(summary, model, f"{split}/vqa/heldout_accuracy") for model in ("vanilla", "unlearned"))
        if before is not None and after is not None:
            kept.append(f"{percent(after)} for the {people[split]} {words} (before: {percent(before)})")
    return f"On unseen photographs of others it answers {' and '.join(kept)}." if kept else ""


def _attacking(summary: dict[str, Any]) -> str:
    worst = worst_attack(summary)
    if worst is None:
        return f"Whether the knowledge can be brought back was not measured: {_attack_reason(summary)}."
    beyond = worst[2]
    if beyond <= 0:
        return "Retraining on some of their photographs won back no more than it teaches a model that never saw them."
    return (
        f"Retraining on some of their photographs won back up to {points(beyond)} more than it teaches a model that "
        f"never saw them; {points(RELEARN_LIMIT)} are allowed."
    )


def _paired(run: RunInputs, first: str, second: str, metric: str) -> Difference:
    split, modality, name = metric.split("/")
    return accuracy_difference(
        run.evaluations[first].predictions,
        run.evaluations[second].predictions,
        split=split,
        modality=modality,
        view="heldout" if name.startswith("heldout_") else None,
        draws=run.settings["evaluation"]["bootstrap"],
        seed=run.settings["evaluation"]["seed"],
    )


def _interval(difference: Difference) -> str | None:
    if difference.low is None or difference.high is None:
        return None
    return f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f} points"


def _value(summary: dict[str, Any], model: str, metric: str) -> float | None:
    return summary["models"].get(model, {}).get(metric)


def _reason(summary: dict[str, Any], metric: str, models: Sequence[str]) -> str:
    for model in models:
        if model not in summary["models"]:
            return f"no {model} reference was built"
        if reason := summary["not_measured"][model].get(metric):
            return reason
    return "it was not evaluated"


def _attack_reason(summary: dict[str, Any]) -> str:
    reasons = [
        entry["reason"] for entries in summary["relearning"].values() for entry in entries.values() if entry["reason"]
    ]
    if reasons:
        return reasons[0]
    return "no retrained reference was attacked to compare with" if summary["relearning"] else "no attack was run"


_SAMPLED = {"person": "people", "image": "photographs"}
