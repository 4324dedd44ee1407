"""What a comparison says, in words: the headline of the page and the sentences under it."""

from typing import Any

from unsee.comparison import paper
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.summary import GOLD, MATCHED_LOSS, OURS
from unsee.comparison.tables import budget_in_words
from unsee.report.checks import FORGET_METRIC, REALWORLD_METRIC, RETAIN_METRIC
from unsee.report.wording import counted, points

CLOSER = ("surely closer than", "surely farther away than", "neither surely closer nor farther than")
BROUGHT_BACK = ("surely less than of", "surely more than of", "neither surely less nor surely more than of")
LOSING = (
    "surely losing less than with",
    "surely losing more than with",
    "losing neither surely less nor surely more than with",
)
FAMILIES = {"llava": "LLaVA", "qwen2_vl": "Qwen2-VL"}


def subject(comparison: dict[str, Any]) -> str:
    """'Qwen2-VL on embedded-clear-0, in the shape of CLEAR'."""
    family, benchmarks = comparison["family"], ", ".join(comparison["benchmarks"])
    return f"{FAMILIES.get(family, family)} on {benchmarks}, in the shape of {paper.benchmark(comparison['shape'])}"


def headline(comparison: dict[str, Any]) -> str:
    """Which method is closest to the retrained model at matched retain accuracy, or that nothing can be said."""
    if comparison["ranking"] is None:
        return "Which method forgets best cannot be said"
    if not comparison["ranking"] and not comparison["unmatched"]:
        return f"There is no method to compare: {GOLD} is the reference itself"
    if not comparison["ranking"]:
        return f"No method forgets without costing the people who stay more than {points(MATCHED_LOSS)}"
    best = comparison["ranking"][0]
    distance = comparison["methods"][best][DISTANCE][FORGET_METRIC]["mean"]
    return f"Closest to a model that never saw them: {best}, {points(distance)} away"


def sentences(comparison: dict[str, Any]) -> list[str]:
    """What the headline rests on, in points and with intervals."""
    if comparison["ranking"] is None:
        return [f"No ranking is possible: {comparison['ranking_reason']}."]
    told = [_winner(comparison), _ours(comparison), _realworld(comparison), *_brought_back(comparison)]
    return [sentence for sentence in (*told, _unmatched(comparison)) if sentence]


def _winner(comparison: dict[str, Any]) -> str:
    if not comparison["ranking"]:
        return ""
    best, *others = comparison["ranking"]
    seeds = counted(len(comparison["seeds"]), "seed", "seeds")
    text = (
        f"Asked about unseen photographs of the forgotten people over {seeds}, {best} ends {away(comparison, best)} "
        f"above or below a model that never saw them; the people who stay {cost(comparison, best)}."
    )
    return text + (f" Next is {others[0]}, {away(comparison, others[0])} away." if others else "")


def _ours(comparison: dict[str, Any]) -> str:
    """How sure it is that our method is closer, or farther, than the other ranked ones."""
    if OURS not in comparison["ranking"] or len(comparison["ranking"]) < 2:
        return ""
    told = _told_apart(comparison, FORGET_METRIC, CLOSER)
    return f"Compared on the same people, {OURS} is {told}." if told else ""


def _realworld(comparison: dict[str, Any]) -> str:
    """What our method costs people of whom it sees nothing, and how sure it is that others cost them more."""
    if OURS not in comparison["ranking"] or not comparison["methods"][OURS][LOSS].get(REALWORLD_METRIC):
        return ""
    told_apart = _told_apart(comparison, f"{LOSS}/{REALWORLD_METRIC}", LOSING)
    told = [f"{cost(comparison, OURS, REALWORLD_METRIC)} with {OURS}", told_apart]
    return f"Real-world people, of whom unlearning sees nothing, {', '.join(filter(None, told))}."


def _brought_back(comparison: dict[str, Any]) -> list[str]:
    """What each attack on the paper's budget brings back of our method beyond the retrained model's gain, and how sure
    it is that it brings back more of others."""
    if OURS not in comparison["ranking"]:
        return []
    found = [
        f"From {budget_in_words(sampling, paper.RELEARNED_PERCENT)}, {sentence}."
        for sampling, attacks in comparison["methods"][OURS]["relearning"].items()
        if (sentence := _attacked(comparison, sampling, attacks.get(paper.RELEARNED_PERCENT)))
    ]
    return [*found, "Of a method that hardly forgot there is little to bring back."] if found else []


def _attacked(comparison: dict[str, Any], sampling: str, attack: dict[str, Any] | None) -> str:
    if attack is None or attack["gap_beyond_control"] is None:
        return ""
    beyond = attack["gap_beyond_control"]["mean"]
    told = f"an attacker brings back {points(abs(beyond))} {'more' if beyond >= 0 else 'less'} of {OURS} than of the "
    told += "retrained model" + (", on questions that were not used" if attack["gap_unseen"] else "")
    apart = _told_apart(comparison, f"relearning/{sampling}/{paper.RELEARNED_PERCENT}", BROUGHT_BACK)
    return f"{told}; {apart}" if apart else told


def _told_apart(comparison: dict[str, Any], title: str, words: tuple[str, str, str]) -> str:
    """'surely closer than ga, npo; …': ranked methods in pairs with ours. words: for differences surely below zero,
    surely above it, and neither."""
    groups: dict[str, list[str]] = {how: [] for how in words}
    for name, pair in comparison["paired"].get(title, {}).items():
        if pair and name in comparison["ranking"]:
            groups[_how(pair, words)].append(name)
    return "; ".join(f"{how} {', '.join(names)}" for how, names in groups.items() if names)


def _how(pair: dict[str, Any], words: tuple[str, str, str]) -> str:
    below, above, neither = words
    if pair["low"] is None or pair["low"] <= 0 <= pair["high"]:
        return neither
    return below if pair["high"] < 0 else above


def _unmatched(comparison: dict[str, Any]) -> str:
    if not comparison["unmatched"]:
        return ""
    names = ", ".join(comparison["unmatched"])
    return f"Not ranked, because the people who stay lose more than {points(MATCHED_LOSS)}: {names}."


def away(comparison: dict[str, Any], name: str) -> str:
    """'1.2 points (95 % interval 0.4 to 3.1)'."""
    distance = comparison["methods"][name][DISTANCE][FORGET_METRIC]
    if distance["low"] is None:
        return points(distance["mean"])
    return f"{points(distance['mean'])} (95 % interval {100 * distance['low']:.1f} to {100 * distance['high']:.1f})"


def cost(comparison: dict[str, Any], name: str, metric: str = RETAIN_METRIC) -> str:
    """'lose 1 point'."""
    lost = comparison["methods"][name][LOSS][metric]["mean"]
    return f"{'lose' if lost >= 0 else 'gain'} {points(abs(lost))}"
