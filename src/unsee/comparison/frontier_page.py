"""`frontier.html`: what forgetting costs, method by method, from its weakest to its strongest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unsee.comparison import candidate_page, verdict
from unsee.comparison.candidate_page import OPTIMISM, Figure, Key, Parts, best_of, distance, unrankable
from unsee.comparison.candidate_tables import CandidateTables
from unsee.comparison.candidates import Candidate, grouped
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.summary import MATCHED_LOSS, OURS
from unsee.comparison.tables import LOST_BY
from unsee.report.checks import FORGET_METRIC
from unsee.report.estimate_charts import Trace, trace_chart
from unsee.report.wording import counted, points

SERIES = 8
"""How many lines the style sheet tells apart by colour; the others by their numbers."""
READ = (
    "A line is a method over the values of its strength, with its number at the last of them. Further left is closer "
    "to a model that never saw the forgotten people; further down, others lose less. Both on photographs never used "
    f"in training. The dashed line is {points(MATCHED_LOSS)} lost; axes are wide near zero. Intervals stand below."
)


def render(comparison: dict[str, Any]) -> str:
    """The page of a comparison of methods at several values of a setting of each.

    Raises:
        UserError: a method has no setting that is varied.
    """
    lines = _lines(comparison)
    tables = CandidateTables(comparison)
    styles = _styles(lines)
    seeds = ", ".join(map(str, comparison["seeds"]))
    parts = Parts(
        eyebrow=("Frontier of forgetting and keeping", counted(len(lines), "method", "methods"), f"seeds {seeds}"),
        headline=verdict.headline(comparison),
        sentences=[*unrankable(comparison), *_sentences(comparison, lines)],
        read=(READ, "Accuracy in percent, differences in points."),
        tables=[
            tables.line(title, candidates, best_of(comparison, [c.name for c in candidates]))
            for title, candidates in lines.items()
        ],
        figures=[
            figure
            for metric in LOST_BY
            if (figure := _figure(comparison["methods"], lines, styles, metric)) is not None
        ],
        keys=[Key(styles[title], title) for title in lines],
    )
    return candidate_page.render(comparison, parts, tables)


def _lines(comparison: dict[str, Any]) -> dict[str, list[Candidate]]:
    """The line with the best candidate first, those without a ranked one last."""

    def order(line: tuple[str, list[Candidate]]) -> tuple[float, str]:
        title, candidates = line
        best = best_of(comparison, [candidate.name for candidate in candidates])
        return (comparison["ranking"].index(best) if best else math.inf, title)

    return dict(sorted(grouped(list(comparison["methods"])).items(), key=order))


def _sentences(comparison: dict[str, Any], lines: Mapping[str, Sequence[Candidate]]) -> list[str]:
    if comparison["ranking"] is None:
        return []
    best = {title: best_of(comparison, [c.name for c in candidates]) for title, candidates in lines.items()}
    reached = [Candidate.parse(name) for name in best.values() if name is not None]
    found = [f"{c.base.name}, {distance(comparison, c.name)} away at {c.value}" for c in reached]
    lost = [title for title, name in best.items() if name is None]
    text = [f"The best of each: {'; '.join(found)}."] if found else []
    text += [f"At no value within {points(MATCHED_LOSS)} lost: {', '.join(lost)}."] if lost else []
    return [*text, OPTIMISM]


def _styles(lines: Mapping[str, Sequence[Candidate]]) -> dict[str, str]:
    """Title -> class of the line in the style sheet."""
    others = [title for title, candidates in lines.items() if candidates[0].method != OURS]
    series = {title: f"series s{index % SERIES + 1}" for index, title in enumerate(others)}
    return {title: series.get(title, "ours") for title in lines}


def _figure(
    methods: dict[str, Any], lines: Mapping[str, Sequence[Candidate]], styles: Mapping[str, str], metric: str
) -> Figure | None:
    traces = []
    for index, (title, candidates) in enumerate(lines.items(), start=1):
        measured = [
            (c.value, (methods[c.name][DISTANCE][FORGET_METRIC]["mean"], methods[c.name][LOSS][metric]["mean"]))
            for c in candidates
            if methods[c.name][DISTANCE][FORGET_METRIC] and methods[c.name][LOSS].get(metric)
        ]
        if measured:
            values, places = zip(*measured, strict=True)
            traces.append(Trace(index, title, styles[title], values, places))
    labels = {"x_label": "distance to retrained, points", "y_label": "lost, points"}
    title = LOST_BY[metric]
    return Figure(title, trace_chart(traces, title=title, **labels, limit=MATCHED_LOSS)) if traces else None
