"""The tables of the report: one cell per metric and model, and a numbered note for everything not measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unsee.evaluation.metrics import Metric
from unsee.report.checks import chance, missing_reason
from unsee.report.inputs import RunInputs
from unsee.report.wording import counted

SPLITS = {"forget": "Forget", "retain": "Retain", "realworld": "Real-world"}
MODELS = {
    "vanilla": ("Vanilla", "before"),
    "retrained": ("Retrained", "never saw them"),
    "unlearned": ("Unlearned", "after"),
}
METRICS = {
    "accuracy": "multiple choice",
    "parsed_accuracy": "multiple choice, answer parsed",
    "exact": "free answer, exact match",
    "rouge_l": "free answer, ROUGE-L",
    "cloze": "fill the gap, exact",
    "cloze_contained": "fill the gap, contained",
    "other_face_accuracy": "multiple choice, another person's portrait",
}
MODALITIES = {"vqa": "photograph", "qa": "by name", "qa_with_face": "by name, portrait attached"}


class Notes:
    """Reasons why something is missing, numbered in the order they are first met."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def number(self, reason: str) -> int:
        """The number of the note with this reason, from 1."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1


@dataclass(frozen=True)
class Cell:
    """A number in percent with its interval, or the number of the note that says why there is none."""

    text: str | None
    interval: str | None = None
    note: int | None = None


@dataclass(frozen=True)
class Row:
    """A labelled row of cells; `style` is the model's class in the style sheet."""

    label: str
    detail: str
    style: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """The split (a group heading), what is asked, and over how many people and questions (empty: not measured)."""

    group: str
    label: str
    people: str
    questions: str


@dataclass(frozen=True)
class ScoreTable:
    """Models down, metrics across."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class MetricTable:
    """Metrics down, models across, for one split."""

    caption: str
    rows: tuple[Row, ...]


class Tables:
    """Makes the tables of one run, collecting `notes` on the way."""

    def __init__(self, run: RunInputs, summary: dict[str, Any]):
        self.notes = Notes()
        self._run = run
        self._summary = summary

    def scores(self, caption: str, metrics: Sequence[tuple[str, str]]) -> ScoreTable:
        """A table of these (metric, column label), with rows for guessing and the distance to the retrained model."""
        names = [name for name, _ in metrics]
        rows = [Row(*MODELS[model], model, tuple(self.cell(model, name) for name in names)) for model in MODELS]
        rows.append(Row("Guessing", "among the options", "guessing", tuple(self._guess(name) for name in names)))
        rows.append(Row("Distance", "unlearned to retrained", "distance", tuple(self._distance(n) for n in names)))
        return ScoreTable(caption, tuple(self._column(name, label) for name, label in metrics), tuple(rows))

    def everything(self, split: str) -> MetricTable:
        """Every metric of a split, for every model."""
        names = [name for name in self._run.evaluations["unlearned"].metrics if name.startswith(f"{split}/")]
        rows = tuple(Row(*_spoken(name), name, tuple(self.cell(model, name) for model in MODELS)) for name in names)
        return MetricTable(SPLITS[split], rows)

    def cell(self, model: str, metric: str) -> Cell:
        """A metric of a model with its interval, or a note with the reason why there is none."""
        measure = self._measure(model, metric)
        if measure is None or measure.value is None:
            return self.percent_cell(None, missing_reason(self._summary, metric, [model]))
        return Cell(f"{100 * measure.value:.1f}", _interval(measure))

    def percent_cell(self, value: float | None, reason: str | None, signed: bool = False) -> Cell:
        """A number in percent (or signed points), or a note with the reason."""
        if value is None:
            return Cell(None, note=self.notes.number(reason or "it was not evaluated"))
        return Cell(f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}")

    def _guess(self, metric: str) -> Cell:
        split, modality, name = metric.split("/")
        if self._summary["models"]["unlearned"].get(metric) is None:
            return self.cell("unlearned", metric)
        guessing = chance(self._run, split, modality) if name.endswith("accuracy") else None
        return self.percent_cell(guessing, "the questions have no options to guess among")

    def _distance(self, metric: str) -> Cell:
        if not metric.startswith("forget/"):
            return Cell("")
        reason = missing_reason(self._summary, metric, ["retrained", "unlearned"])
        return self.percent_cell(self._summary["distance_to_retrained"].get(metric), reason)

    def _column(self, metric: str, label: str) -> Column:
        measure = self._measure("unlearned", metric)
        group = SPLITS[metric.partition("/")[0]]
        if measure is None or measure.n == 0:
            return Column(group, label, "", "")
        people = counted(measure.n, "person", "people")
        return Column(group, label, people, counted(measure.questions, "question", "questions"))

    def _measure(self, model: str, metric: str) -> Metric | None:
        evaluation = self._run.evaluations.get(model)
        return evaluation.metrics.get(metric) if evaluation else None


def _interval(measure: Metric) -> str | None:
    """None for one person too: resampling one person says nothing about others."""
    if measure.low is None or measure.high is None or measure.n < 2:
        return None
    return f"{100 * measure.low:.0f}–{100 * measure.high:.0f}"


def _spoken(metric: str) -> tuple[str, str]:
    """'forget/vqa/heldout_exact' -> ('free answer, exact match', 'unseen photograph')."""
    _, modality, name = metric.split("/")
    bare = name.removeprefix("heldout_")
    asked = MODALITIES.get(modality, modality)
    if modality == "vqa":
        asked = "unseen photograph" if name != bare else "training photograph"
    return METRICS.get(bare, bare), asked
