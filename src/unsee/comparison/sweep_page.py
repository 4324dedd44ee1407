"""`sweep.html`: one setting of one method over its values, as the paper's Figures 2 (beta) and 3 (alpha)."""

from collections.abc import Iterable, Sequence
from typing import Any

from unsee.comparison import candidate_page, verdict
from unsee.comparison.candidate_page import OPTIMISM, Figure, Parts, best_of, unrankable
from unsee.comparison.candidate_tables import SHOWN, CandidateTables
from unsee.comparison.candidates import Candidate, grouped, number
from unsee.comparison.estimates import DISTANCE
from unsee.comparison.page import spread
from unsee.comparison.seeds import REFERENCES
from unsee.comparison.summary import MATCHED_LOSS
from unsee.comparison.tables import budget_in_words
from unsee.errors import UserError
from unsee.report.checks import FORGET_METRIC
from unsee.report.estimate_charts import Reading, value_chart
from unsee.report.wording import counted, points

TITLES = {"forget": "Forgotten people", "retain": "People who stay", "realworld": "Real-world people"}
READ = (
    "Accuracy in percent on photographs never used in training, and differences in points; upright lines are 95 % "
    "intervals. The dotted line is the vanilla model, the dashed one the retrained model, which "
    "never saw the forgotten people and answers as it should."
)


def render(comparison: dict[str, Any]) -> str:
    """The page of a comparison whose methods are one method at several values of one setting.

    Raises:
        UserError: they are not.
    """
    title, candidates = _line(comparison)
    tables = CandidateTables(comparison)
    best = best_of(comparison, [candidate.name for candidate in candidates])
    seeds = ", ".join(map(str, comparison["seeds"]))
    parts = Parts(
        eyebrow=("Sweep of a setting", title, counted(len(candidates), "value", "values"), f"seeds {seeds}"),
        headline=headline(comparison),
        sentences=[*unrankable(comparison), *_sentences(comparison, best)],
        read=(READ, f"Values of {candidates[0].varied}."),
        tables=[tables.line(f"{title}: accuracy in percent, differences in points", candidates, best)],
        figures=[*_accuracies(comparison, candidates, tables), *_differences(comparison, candidates, tables)],
    )
    return candidate_page.render(comparison, parts, tables)


def headline(comparison: dict[str, Any]) -> str:
    """At which value the method ends closest to the retrained model."""
    title, candidates = _line(comparison)
    method, setting = candidates[0].base.name, candidates[0].varied
    if comparison["ranking"] is None:
        return f"Which value of {setting} forgets best cannot be said"
    if not comparison["ranking"]:
        return f"{title}: no value forgets without costing the people who stay more than {points(MATCHED_LOSS)}"
    best = Candidate.parse(comparison["ranking"][0])
    return f"{method} is closest to a model that never saw them at {setting} = {best.value}"


def _line(comparison: dict[str, Any]) -> tuple[str, list[Candidate]]:
    lines = grouped(list(comparison["methods"]))
    if len(lines) != 1:
        raise UserError(f"a sweep varies one setting of one method, not {' and '.join(lines)}; report a frontier")
    return next(iter(lines.items()))


def _sentences(comparison: dict[str, Any], best: str | None) -> list[str]:
    if best is None:
        return []
    return [
        f"There it ends {verdict.away(comparison, best)} above or below that model on unseen photographs of the "
        f"forgotten people; the people who stay {verdict.cost(comparison, best)}. {OPTIMISM}"
    ]


def _accuracies(comparison: dict[str, Any], candidates: Sequence[Candidate], tables: CandidateTables) -> list[Figure]:
    figures = []
    for metric, split in SHOWN.items():
        references = {name: comparison["references"][name]["metrics"].get(metric) for name in REFERENCES}
        measured = [(c, comparison["methods"][c.name]["metrics"].get(metric)) for c in candidates]
        svg = value_chart(
            _readings(measured),
            title=TITLES[split],
            x_label=candidates[0].varied,
            references={name: found["mean"] for name, found in references.items() if found},
            as_percent=True,
        )
        figures.append(Figure(TITLES[split], svg, None if svg else tables.why_not(metric)))
    return figures


def _differences(comparison: dict[str, Any], candidates: Sequence[Candidate], tables: CandidateTables) -> list[Figure]:
    """The distance to the retrained model, and what attacks won back beyond their control."""
    methods = comparison["methods"]
    shown = {"Distance to the retrained model": [(c, methods[c.name][DISTANCE][FORGET_METRIC]) for c in candidates]}
    for sampling, percent in tables.attacks():
        attacks = [(c, methods[c.name]["relearning"][sampling][percent]) for c in candidates]
        title = f"Relearnt beyond the control, {budget_in_words(sampling, percent)}"
        shown[title] = [(c, attack["gap_beyond_control"]) for c, attack in attacks]
    drawn = {title: _readings(measured) for title, measured in shown.items()}
    return [
        Figure(title, value_chart(found, title=title, x_label=candidates[0].varied, references={}, as_percent=False))
        for title, found in drawn.items()
        if found
    ]


def _readings(measured: Iterable[tuple[Candidate, dict[str, Any] | None]]) -> list[Reading]:
    return [Reading(number(c.value), c.value, spread(estimate)) for c, estimate in measured if estimate]
