"""`search.html`: what was tried for every method, and what was chosen."""

from collections.abc import Sequence
from typing import Any

from unsee.comparison import candidate_page
from unsee.comparison.candidate_page import Parts
from unsee.comparison.candidate_tables import CandidateRow, CandidateTables
from unsee.comparison.search import TUNING_SEEDS
from unsee.report.tables import ScoreTable
from unsee.report.wording import counted

READ = (
    "The chosen candidate is marked; candidates stand from the nearest to the retrained model to the farthest, those "
    "that cost others too much last. Accuracy in percent, differences in points."
)


def render(comparison: dict[str, Any], search: dict[str, Any]) -> str:
    """The page of a search (`search.build_search`)."""
    tables = CandidateTables(comparison)
    seeds = ", ".join(map(str, search["seeds"]))
    parts = Parts(
        eyebrow=("Search for settings", counted(len(search["methods"]), "method", "methods"), f"tuning seeds {seeds}"),
        headline=headline(search),
        sentences=_sentences(search),
        read=("", READ),
        tables=[_table(tables, method, found) for method, found in search["methods"].items()],
    )
    return candidate_page.render(comparison, parts, tables)


def headline(search: dict[str, Any]) -> str:
    """How many candidates the choice was among."""
    if search["reason"]:
        return "Nothing can be chosen"
    budgets = sorted({found["budget"] for found in search["methods"].values()})
    methods = counted(len(search["methods"]), "method", "methods")
    return f"Settings for {methods}, each chosen among {' or '.join(map(str, budgets))} candidates"


def _sentences(search: dict[str, Any]) -> list[str]:
    if search["reason"]:
        return [f"Candidates cannot be told apart: {search['reason']}."]
    lost = [method for method, found in search["methods"].items() if not found["matched"]]
    text = [f"Chosen is the candidate {search['rule']}."]
    text += [f"No candidate kept the people who stay within that: {', '.join(lost)}."] if lost else []
    return [*text, f"Seeds below {TUNING_SEEDS} were not looked at; no relearning attack takes part in the choice."]


def _table(tables: CandidateTables, method: str, found: dict[str, Any]) -> ScoreTable:
    candidates: dict[str, Any] = found["candidates"]
    order = [name for name in tables.order if name in candidates]
    searched: Sequence[str] = list(candidates[order[0]]["settings"])
    chosen = "chosen" if found["matched"] else "chosen: costs others least"
    rows = {
        name: CandidateRow(
            str(number),
            chosen if name == found["chosen"] else tables.role(name),
            tuple(candidates[name]["settings"].values()),
            name == found["chosen"],
        )
        for number, name in enumerate(order, start=1)
    }
    return tables.figures(method, rows, searched)
