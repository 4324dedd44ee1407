"""Tables of candidates: what decides between them, beside the references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unsee.comparison.candidates import Candidate
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.tables import ComparisonTables, budget_in_words, sizes
from unsee.report.checks import FORGET_METRIC, REALWORLD_METRIC, RETAIN_METRIC
from unsee.report.tables import MODELS, SPLITS, Cell, Column, Row, ScoreTable

SHOWN = {FORGET_METRIC: "forget", RETAIN_METRIC: "retain", REALWORLD_METRIC: "realworld"}
"""What is shown of every candidate: accuracy on unseen photographs, by split."""


@dataclass(frozen=True)
class CandidateRow:
    """How a candidate's row begins, what is said of it, its settings in columns of their own, and if it is marked."""

    label: str
    told: str
    settings: tuple[str, ...] = ()
    marked: bool = False


class CandidateTables(ComparisonTables):
    """The tables of one comparison of candidates, collecting `notes` on the way."""

    def figures(self, caption: str, rows: Mapping[str, CandidateRow], searched: Sequence[str] = ()) -> ScoreTable:
        """The candidates of these names below the references; `searched` names the columns of their settings."""
        none = (Cell(""),) * len(searched)
        found = [Row(*MODELS[model], model, (*none, *self._figures(model))) for model in ("vanilla", "retrained")]
        for name, row in rows.items():
            cells = (*map(Cell, row.settings), *self._figures(name))
            found.append(Row(row.label, row.told, "unlearned" if row.marked else "method", cells))
        columns = (*(Column("Searched", setting, "", "") for setting in searched), *self._columns())
        return ScoreTable(caption, columns, tuple(found))

    def line(self, caption: str, candidates: Sequence[Candidate], best: str | None) -> ScoreTable:
        """A method at the values of one of its settings; `best` names the candidate to be marked."""
        rows = {
            c.name: CandidateRow(c.value, "closest" if c.name == best else self.role(c.name), marked=c.name == best)
            for c in candidates
        }
        return self.figures(caption, rows)

    def why_not(self, metric: str) -> int:
        """The number of the note that says why nobody has this metric."""
        return self.notes.number(self._why("vanilla", metric) or "it was not evaluated")

    def _columns(self) -> tuple[Column, ...]:
        columns = [Column("Distance to retrained", "VQA, unseen", "", "")]
        for metric, split in SHOWN.items():
            asked = sizes(model["metrics"].get(metric) for model in self._models.values())
            columns.append(Column(SPLITS[split], "VQA, unseen", *asked))
            columns += [Column(SPLITS[split], "Lost", "", "")] if split != "forget" else []
        return (*columns, *(Column("Gap beyond the control", budget_in_words(*a), "", "") for a in self.attacks()))

    def _figures(self, name: str) -> tuple[Cell, ...]:
        model: dict[str, Any] = self._models[name]
        cells = [self._percent(model[DISTANCE][FORGET_METRIC], self._why(name, FORGET_METRIC), 1)]
        for metric, split in SHOWN.items():
            cells.append(self._percent(model["metrics"].get(metric), self._why(name, metric)))
            cells += [self._gap(model[LOSS].get(metric), self._why(name, metric))] if split != "forget" else []
        attacks: Sequence[dict[str, Any]] = [model["relearning"][s][percent] for s, percent in self.attacks()]
        return (*cells, *(self._gap(attack["gap_beyond_control"], attack["reason"]) for attack in attacks))
