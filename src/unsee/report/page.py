"""`report.html`: one self-contained page for people, made from the same numbers as `summary.json`."""

import datetime
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from unsee.report import charts, evidence
from unsee.report.charts import Line
from unsee.report.checks import (
    FORGET_METRIC,
    REALWORLD_METRIC,
    RETAIN_METRIC,
    SAMPLED,
    value_of,
)
from unsee.report.inputs import RunInputs
from unsee.report.tables import MODELS, SPLITS, Cell, ScoreTable, Tables
from unsee.report.verdict import Verdict
from unsee.report.wording import counted, duration, thousands

GAPS = ("before", "after", "gap", "gap_unseen", "gap_unseen_control", "gap_beyond_control")


@dataclass(frozen=True)
class Tile:
    """One figure to take away: the unlearned model's number beside where the three models stand."""

    label: str
    cell: Cell
    strip: Markup


@dataclass(frozen=True)
class Bar:
    """A share of something, drawn as a bar."""

    label: str
    share: float
    detail: str


@dataclass(frozen=True)
class AttackRow:
    """One relearning attack: its budget and its gaps, in the order of GAPS."""

    label: str
    used: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class AttackChart:
    """One relearning curve, or the note that says why there is none."""

    title: str
    svg: Markup
    note: int | None


def render(run: RunInputs, summary: dict[str, Any], verdict: Verdict) -> str:
    """The report of a run as HTML; needs nothing from the network and escapes every name and answer."""
    tables = Tables(run, summary)
    template = environment().get_template("report.html.j2")
    return template.render(
        style=Markup(packaged("report.css")),
        today=datetime.datetime.now(datetime.UTC).date().isoformat(),
        run=run,
        summary=summary,
        verdict=verdict,
        tiles=_tiles(tables, summary),
        forgotten_faces=evidence.faces(run.benchmark, run.request.forget),
        shown_groups=_shown_groups(run),
        score_tables=_score_tables(tables, captioned=run.benchmark.shape == "clear"),
        metric_tables=[tables.everything(split) for split in SPLITS],
        attack_charts=_attack_charts(run, tables),
        attack_rows=_attack_rows(tables, summary),
        pruned=_pruned(run),
        mask=_mask(run),
        trained=thousands(run.trained),
        training=_training(run),
        timing=_timing(summary),
        notes=tables.notes.reasons,
        models=MODELS,
        key_marks={model: charts.key_mark(model) for model in MODELS},
    )


def environment() -> Environment:
    """Templates of the pages, with what they use in common."""
    made = Environment(
        loader=FunctionLoader(packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["duration"] = duration
    return made


def packaged(name: str) -> str:
    """The text of a file beside the templates."""
    return (resources.files("unsee.report") / name).read_text(encoding="utf-8")


def _tiles(tables: Tables, summary: dict[str, Any]) -> list[Tile]:
    labels = {
        FORGET_METRIC: "The forgotten",
        RETAIN_METRIC: "The people who stay",
        REALWORLD_METRIC: "Real-world people",
    }
    return [
        Tile(
            label,
            tables.cell("unlearned", metric),
            charts.dot_strip({model: value_of(summary, model, metric) for model in MODELS}),
        )
        for metric, label in labels.items()
    ]


def _shown_groups(run: RunInputs) -> dict[str, list[evidence.Person]]:
    groups = {"Asked to be forgotten": run.request.forget, "Staying known": run.request.retain}
    return {heading: evidence.people_asked(run, people) for heading, people in groups.items()}


def _score_tables(tables: Tables, *, captioned: bool) -> list[ScoreTable]:
    """`captioned`: in CLEAR's shape, where portraits and facts are told in sentences as well."""
    labels = {"vqa": "VQA", "qa": "QA"}
    six = [(f"{split}/{modality}/accuracy", label) for split in SPLITS for modality, label in labels.items()]
    harder = {"vqa/heldout_accuracy": "VQA, unseen photograph", "qa_with_face/accuracy": "QA beside a portrait"}
    other = [(f"{split}/{metric}", label) for split in SPLITS for metric, label in harder.items()]
    told = {"vqa/rouge_l": "Caption", "vqa/heldout_rouge_l": "Caption, unseen photograph", "qa/rouge_l": "QA"}
    sentences = [(f"{split}/{metric}", label) for split in SPLITS for metric, label in told.items()]
    first = "Multiple choice" if captioned else "The six columns of the paper"
    shown = [
        tables.scores(f"{first}: photographs used in training (VQA), and by name (QA)", six),
        tables.scores("Photographs never used in training, and by name with the person’s portrait attached", other),
    ]
    if captioned:
        shown.append(tables.scores("ROUGE-L in percent: photographs described, and facts told by name (QA)", sentences))
    return shown


def _attack_charts(run: RunInputs, tables: Tables) -> list[AttackChart]:
    return [
        _attack_chart(run, tables, sampling, share, result["reason"])
        for sampling, results in run.relearning["unlearned"].items()
        for share, result in results.items()
    ]


def _attack_chart(run: RunInputs, tables: Tables, sampling: str, share: str, reason: str | None) -> AttackChart:
    title = f"{share} % of the {SAMPLED[sampling]}"
    lines = []
    for model in MODELS:
        curve = run.relearning.get(model, {}).get(sampling, {}).get(share, {}).get("curve", [])
        points = tuple((point["epoch"], point["unseen"]) for point in curve if point["unseen"] is not None)
        lines.append(Line(model, model, points))
    svg = charts.line_chart(lines, title=title, x_label="epochs of retraining", as_percent=True)
    return AttackChart(title, svg, None if svg else tables.notes.number(reason or "no question was left unused"))


def _attack_rows(tables: Tables, summary: dict[str, Any]) -> list[AttackRow]:
    rows = []
    for sampling, entries in summary["relearning"].items():
        for share, entry in entries.items():
            reason = entry["reason"] or "no retrained reference was attacked to compare with"
            cells = (tables.percent_cell(entry[key], reason, signed=key.startswith("gap")) for key in GAPS)
            rows.append(AttackRow(f"{share} % of the {SAMPLED[sampling]}", _budget(entry["used"]), tuple(cells)))
    return rows


def _budget(used: dict[str, int]) -> str:
    people = counted(used["people"], "person", "people")
    return f"{people}, {counted(used['images'], 'photograph', 'photographs')}"


def _pruned(run: RunInputs) -> list[Bar]:
    return [_bar(layer["place"], layer["pruned"], layer["of"]) for layer in run.pruned if layer["pruned"]]


def _mask(run: RunInputs) -> list[Bar]:
    return [_bar(place["place"], place["kept"], place["of"]) for place in run.mask]


def _bar(label: str, part: int, of: int) -> Bar:
    return Bar(label, part / of if of else 0.0, f"{thousands(part)} of {thousands(of)}")


def _training(run: RunInputs) -> list[tuple[str, Markup]]:
    """Title and chart of each curve in each model's history."""
    return [
        (f"{MODELS[model][0]}: {name.replace('_', ' ')}", _training_chart(name, history))
        for model, history in run.histories.items()
        for name in sorted({name for point in history for name in point} - {"step"})
    ]


def _training_chart(name: str, history: list[dict[str, float]]) -> Markup:
    points = tuple((point["step"], point[name]) for point in history if point.get(name) is not None)
    return charts.line_chart([Line(name, "plain", points)], title=name, x_label="steps", as_percent=False)


def _timing(summary: dict[str, Any]) -> list[Bar]:
    longest = max(summary["timing"].values(), default=0.0) or 1.0
    return [Bar(step, seconds / longest, duration(seconds)) for step, seconds in summary["timing"].items()]
