"""`report.html` of a comparison: the paper's tables for these methods, beside the paper's own numbers."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from unsee.comparison import paper
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.summary import MATCHED_LOSS, OURS
from unsee.comparison.tables import LOST_BY, ComparisonTables
from unsee.comparison.verdict import headline, sentences, subject
from unsee.report.checks import FORGET_METRIC
from unsee.report.estimate_charts import Point, scatter_chart
from unsee.report.page import environment, packaged

CLOSE_UP = (0.10, 0.05)
"""Distance and loss up to which the second panel of the figure goes."""


def render(comparison: dict[str, Any]) -> str:
    """The comparison (`summary.build_comparison`) as HTML; needs nothing from the network and escapes every name."""
    tables = ComparisonTables(comparison)
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            style=Markup(packaged("report.css")),
            today=datetime.datetime.now(datetime.UTC).date().isoformat(),
            comparison=comparison,
            headline=headline(comparison),
            subject=subject(comparison),
            sentences=sentences(comparison),
            ours=OURS,
            order=tables.order,
            figure=_figure(comparison, tables.order),
            effectiveness=tables.effectiveness(),
            ablation=tables.ablation(),
            costs=tables.costs(),
            attacks=[(attack[1] == paper.RELEARNED_PERCENT, tables.relearning(*attack)) for attack in tables.attacks()],
            pairs=tables.pairs(),
            searched=_searched(comparison["methods"], tables.order),
            setting=tables.setting if tables.setting in paper.settings() else None,
            setting_of_all_tables=paper.SETTING,
            percent=paper.RELEARNED_PERCENT,
            matched_loss=100 * MATCHED_LOSS,
            notes=tables.notes.reasons,
        )
    )


def _searched(methods: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Method, setting, what a search draws it from, and its value, in words; from what no search would take, too."""

    def words(values: Any) -> str:
        if isinstance(values, Mapping):
            return f"{words(values.get('low'))} to {words(values.get('high'))}"
        if isinstance(values, list):
            return ", ".join(map(words, values))
        return f"{values:g}" if isinstance(values, float) else "–" if values is None else str(values)

    return [
        (name, setting, words(found["from"]), words(found["value"]))
        for name in names
        for setting, found in methods[name]["searched"].items()
    ]


def _figure(comparison: dict[str, Any], names: Sequence[str]) -> list[tuple[str, Markup]]:
    """Title and chart of every panel: what each group of people loses with all methods, and the corner where the good
    ones are if some are outside of it."""
    panels: dict[str, list[Point]] = {}
    for metric, people in LOST_BY.items():
        drawn = [_point(number, name, comparison["methods"][name], metric) for number, name in enumerate(names, 1)]
        panels[people] = [point for point in drawn if point]
        near = [p for p in panels[people] if p.x[0] <= CLOSE_UP[0] and p.y[0] <= CLOSE_UP[1]]
        if 1 < len(near) < len(panels[people]):
            panels[f"{people}, the near corner"] = near
    labels = {"x_label": "distance to retrained, points", "y_label": "lost by them, points"}
    return [
        (title, scatter_chart(shown, title=title, **labels, limit=MATCHED_LOSS))
        for title, shown in panels.items()
        if shown
    ]


def _point(number: int, name: str, method: dict[str, Any], metric: str) -> Point | None:
    distance, loss = method[DISTANCE][FORGET_METRIC], method[LOSS].get(metric)
    if distance is None or loss is None:
        return None
    style = "ours" if name == OURS else "matched" if method["matched"] else "unmatched"
    return Point(number, name, style, spread(distance), spread(loss))


def spread(estimate: dict[str, Any]) -> tuple[float, float, float]:
    """Mean, low and high; the mean alone where there is no interval."""
    if estimate["low"] is None:
        return (estimate["mean"],) * 3
    return estimate["mean"], estimate["low"], estimate["high"]
