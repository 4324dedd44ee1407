"""The page that sweeps, frontiers and searches share: figures and tables of candidates."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unsee.comparison.candidate_tables import CandidateTables
from unsee.comparison.candidates import Candidate
from unsee.comparison.estimates import DISTANCE
from unsee.report.checks import FORGET_METRIC
from unsee.report.page import environment, packaged
from unsee.report.tables import ScoreTable
from unsee.report.wording import points

OPTIMISM = (
    "The best values were looked up on the seeds shown here, so they look better than they are; unsee search chooses "
    "at seeds that are not reported."
)


@dataclass(frozen=True)
class Figure:
    """A chart, or the number of the note that says why there is none."""

    title: str
    svg: Markup
    note: int | None = None


@dataclass(frozen=True)
class Key:
    """A line of the figure by its number: its class in the style sheet, and what it is."""

    style: str
    label: str


@dataclass(frozen=True)
class Parts:
    """What a page has of its own; `eyebrow`: what it is, then facts about it. `read`: how figures, then tables, are
    read."""

    eyebrow: Sequence[str]
    headline: str
    sentences: Sequence[str]
    read: tuple[str, str]
    tables: Sequence[ScoreTable]
    figures: Sequence[Figure] = ()
    keys: Sequence[Key] = ()


def render(comparison: dict[str, Any], parts: Parts, tables: CandidateTables) -> str:
    """The page as HTML; needs nothing from the network and escapes every name."""
    return (
        environment()
        .get_template("candidates.html.j2")
        .render(
            style=Markup(packaged("report.css")),
            today=datetime.datetime.now(datetime.UTC).date().isoformat(),
            comparison=comparison,
            parts=parts,
            attacked=bool(tables.attacks()),
            settings=_shared_settings(comparison["methods"]),
            notes=tables.notes.reasons,
        )
    )


def _shared_settings(candidates: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Method -> settings that are the same for all of its candidates."""
    shared: dict[str, dict[str, Any]] = {}
    for name, measured in candidates.items():
        method, own = Candidate.parse(name).method, measured["settings"]
        shared[method] = {key: value for key, value in shared.get(method, own).items() if own[key] == value}
    return shared


def unrankable(comparison: dict[str, Any]) -> list[str]:
    """The sentence that says why nothing can be said, if so."""
    return [f"No ranking is possible: {comparison['ranking_reason']}."] if comparison["ranking"] is None else []


def best_of(comparison: dict[str, Any], names: Sequence[str]) -> str | None:
    """The ranked one of these that is nearest to the retrained model."""
    return next((name for name in comparison["ranking"] or () if name in names), None)


def distance(comparison: dict[str, Any], name: str) -> str:
    """'2.5 points'."""
    return points(comparison["methods"][name][DISTANCE][FORGET_METRIC]["mean"])
