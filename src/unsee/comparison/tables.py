"""The paper's Tables 1 to 4 for the methods of a comparison, the paper's own numbers in rows of their own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from unsee.comparison import paper
from unsee.comparison.estimates import DISTANCE, LOSS
from unsee.comparison.paper import PaperTable
from unsee.comparison.summary import GOLD, OURS, by_distance
from unsee.report.checks import FORGET_METRIC, FORGET_TRAINING_METRIC, REALWORLD_METRIC, RETAIN_METRIC, SAMPLED
from unsee.report.tables import MODELS, SPLITS, Cell, Column, Notes, Row, ScoreTable
from unsee.report.wording import THIN_SPACE, counted

Estimate = dict[str, Any] | None
Cells = Mapping[str, Cell]

ASKED = {
    "vqa/accuracy": "VQA",
    "qa/accuracy": "QA",
    "qa/rouge_l": "QA, ROUGE-L",
    "vqa/heldout_accuracy": "VQA, unseen",
    "vqa/heldout_rouge_l": "Caption, unseen, ROUGE-L",
}
ROUGE_L = "rouge_l"
UNSEEN = {"mllmu": ("vqa/heldout_accuracy",), "clear": ("vqa/heldout_accuracy", "vqa/heldout_rouge_l")}
"""What is shown of each split besides the paper's columns, by the benchmark's shape."""
DISTANCES = {FORGET_TRAINING_METRIC: "VQA", FORGET_METRIC: "VQA, unseen"}
LOST_BY = {RETAIN_METRIC: "People who stay", REALWORLD_METRIC: "Real-world people"}
ATTACKED = {FORGET_TRAINING_METRIC: "Forget VQA", "forget/qa/accuracy": "Forget QA"}
TRAINS = {"vision": "trains the vision part", "full": "trains the whole model"}
ABSENT = Cell("–")


class ComparisonTables:
    """The tables of one comparison, collecting `notes` on the way.

    setting: the paper's block of Table 1 that they belong beside. order: matched methods, nearest to the retrained
    model first, then unmatched ones, then the reference itself.
    """

    def __init__(self, comparison: dict[str, Any], notes: Notes | None = None):
        self.notes = notes or Notes()
        self.setting = paper.setting(comparison["family"], comparison["shape"])
        self._shape: str = comparison["shape"]
        self._methods: dict[str, Any] = comparison["methods"]
        self._models = {**comparison["references"], **self._methods}
        self._paired: dict[str, dict[str, Estimate]] = comparison["paired"]
        self.order = sorted(by_distance(self._methods), key=self._group)

    def effectiveness(self) -> ScoreTable:
        """Table 1: the methods as they are."""
        title = f"Table 1. Effectiveness: {self._units}"
        shown = [name for name in self.order if not self._is_variant(name)]
        return self._scores(title, shown, paper.effectiveness(self.setting))

    def ablation(self) -> ScoreTable | None:
        """Table 3: methods with other settings, beside ours; None if there are none."""
        if not any(map(self._is_variant, self.order)):
            return None
        shown = [name for name in self.order if self._is_variant(name) or name == OURS]
        title = f"Table 3. Ablation: parts left out, or other settings; {self._units}"
        return self._scores(title, shown, paper.ablation(self.setting))

    def costs(self) -> ScoreTable:
        """Table 2."""
        columns = {
            "seconds_per_epoch": Column("One epoch", "Seconds", "", ""),
            "peak_memory_mb": Column("The process", "Peak memory, MB", "", ""),
            "trainable_parameters": Column("Trained", "Parameters", "", ""),
        }
        published = paper.efficiency()

        def own(name: str) -> Cells:
            digits = {"seconds_per_epoch": 1}
            return {cost: self._amount(self._methods[name][cost], digits.get(cost, 0)) for cost in columns}

        def printed(name: str) -> Cells:
            found = published.row(name)
            return found and {
                "seconds_per_epoch": Cell(f"{found['minutes']}{THIN_SPACE}min", f"± {found['minutes_spread']}"),
                "peak_memory_mb": Cell(f"{found['gigabytes']}{THIN_SPACE}GB", f"± {found['gigabytes_spread']}"),
                "trainable_parameters": Cell(found["scope"]),
            }

        return _table("Table 2. What an epoch costs", columns, self.order, own, self._training, printed)

    def attacks(self) -> list[tuple[str, str]]:
        """Sampling and percentage of every attack."""
        found = self._models["retrained"]["relearning"]
        return [(sampling, percent) for sampling in sorted(found) for percent in sorted(found[sampling], key=int)]

    def relearning(self, sampling: str, percent: str) -> list[ScoreTable]:
        """Table 4 for one attack: forget VQA and forget QA after every epoch, and what came back."""
        return [self._relearning(sampling, percent, metric) for metric in ATTACKED]

    def pairs(self) -> ScoreTable | None:
        """Our method minus every other one; None without ours or without others."""
        others = [name for name in self.order if name != OURS]
        if not self._paired or not others:
            return None
        columns = {
            m: Column("Distance to retrained", DISTANCES[m], *sizes(self._paired[m].values())) for m in DISTANCES
        }
        for metric, people in LOST_BY.items():
            if lost := self._paired.get(f"{LOSS}/{metric}"):
                columns[f"{LOSS}/{metric}"] = Column("Lost, VQA, unseen", people, *sizes(lost.values()))
        for attack in [title for title in self._paired if title.startswith("relearning/")]:
            columns[attack] = Column("Gap beyond the control", budget_in_words(*attack.split("/")[1:]), "", "")

        def own(name: str) -> Cells:
            differences = {title: self._paired[title][name] for title in columns}
            return {title: self._gap(each, "one of both was not measured") for title, each in differences.items()}

        return _table(f"{OURS} minus each other method, in points", columns, others, own)

    def _scores(self, title: str, names: Sequence[str], published: PaperTable) -> ScoreTable:
        columns = {f"{DISTANCE}/{m}": Column("Distance to retrained", label, "", "") for m, label in DISTANCES.items()}
        for metric in self._metrics():
            split, _, asked = metric.partition("/")
            asked_of = sizes(model["metrics"].get(metric) for model in self._models.values())
            columns[metric] = Column(SPLITS[split], ASKED[asked], *asked_of)

        def own(name: str) -> Cells:
            model = self._models[name]
            cells = {f"{DISTANCE}/{m}": self._percent(model[DISTANCE][m], self._why(name, m), 1) for m in DISTANCES}
            for metric in self._metrics():
                shown = self._fraction if metric.endswith(ROUGE_L) else self._percent
                cells[metric] = shown(model["metrics"].get(metric), self._why(name, metric))
            return cells

        def printed(name: str) -> Cells:
            found = published.row(name).items()
            return {m: Cell(f"{value:.3f}" if m.endswith(ROUGE_L) else f"{value:.1f}") for m, value in found}

        return _table(title, columns, ("vanilla", "retrained", *names), own, self.role, printed)

    @property
    def _units(self) -> str:
        units = "accuracy in percent, distance in points"
        return f"{units}, ROUGE-L from 0 to 1" if any(m.endswith(ROUGE_L) for m in self._metrics()) else units

    def _metrics(self) -> list[str]:
        """The paper's columns and UNSEEN, split by split."""
        own = [f"{split}/{asked}" for split in SPLITS for asked in UNSEEN[self._shape]]
        shown = [*paper.columns(self._shape), *own]
        return [metric for split in SPLITS for metric in shown if metric.startswith(f"{split}/")]

    def _relearning(self, sampling: str, percent: str, metric: str) -> ScoreTable:
        attacks = {name: model["relearning"][sampling][percent] for name, model in self._models.items()}
        epochs = ["before", *(f"epoch_{e}" for e in range(1, max(len(a["curve"]) for a in attacks.values())))]
        gaps = {"gap": "This model", "gap_control": "Retrained"}
        unused = {"gap_unseen": "This model", "gap_unseen_control": "Retrained", "gap_beyond_control": "Beyond it"}
        columns = {e: Column("Accuracy", e.replace("_", " ").capitalize(), "", "") for e in epochs}
        columns |= {gap: Column("Gap (AG)", label, "", "") for gap, label in gaps.items()}
        if metric == FORGET_TRAINING_METRIC:
            columns |= {gap: Column("Gap on unused questions", label, "", "") for gap, label in unused.items()}
        published = paper.relearning(metric, self.setting)

        def own(name: str) -> Cells:
            attack = attacks[name]
            values = [point[metric] for point in attack["curve"]] or [None] * len(epochs)
            curve = {e: self._share(value, attack["reason"]) for e, value in zip(epochs, values, strict=True)}
            if metric == FORGET_TRAINING_METRIC:
                return curve | {gap: self._gap(attack[gap], attack["reason"]) for gap in (*gaps, *unused)}
            risen = {"gap": _risen(attack, metric), "gap_control": _risen(attacks["retrained"], metric)}
            return curve | {gap: self._share(value, attack["reason"], signed=True) for gap, value in risen.items()}

        def printed(name: str) -> Cells:
            found = published.row(name) if percent == paper.RELEARNED_PERCENT else {}
            return {key: Cell(f"{value:+.1f}" if key == "gap" else f"{value:.1f}") for key, value in found.items()}

        names = ("vanilla", "retrained", *self.order)
        title = f"{ATTACKED[metric]}, {budget_in_words(sampling, percent)}"
        return _table(title, columns, names, own, self.role, printed)

    def _percent(self, estimate: Estimate, reason: str | None, digits: int = 0) -> Cell:
        """A mean in percent, its interval with so many digits."""
        if estimate is None:
            return self._share(None, reason)
        return Cell(f"{100 * estimate['mean']:.1f}", _interval(estimate, f"{{:.{digits}f}}", "–", 100))

    def _fraction(self, estimate: Estimate, reason: str | None) -> Cell:
        """A mean of ROUGE-L as the paper prints it."""
        if estimate is None:
            return self._share(None, reason)
        return Cell(f"{estimate['mean']:.3f}", _interval(estimate, "{:.2f}", "–"))

    def _gap(self, estimate: Estimate, reason: str | None) -> Cell:
        """A signed mean or paired difference in points."""
        if estimate is None:
            return self._share(None, reason)
        value = estimate["difference"] if "difference" in estimate else estimate["mean"]
        return Cell(f"{100 * value:+.1f}", _interval(estimate, "{:+.1f}", " to ", 100))

    def _share(self, value: float | None, reason: str | None, signed: bool = False) -> Cell:
        if value is None:
            return Cell(None, note=self.notes.number(reason or "it was not evaluated"))
        return Cell(f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}")

    def _amount(self, estimate: Estimate, digits: int) -> Cell:
        """A mean as it is, thousands apart; its interval above zero unless it is the same for all seeds."""
        if estimate is None:
            return self._share(None, "its cost was not recorded")
        form = f"{{:,.{digits}f}}"
        known = estimate["low"] != estimate["high"]
        interval = _interval({**estimate, "low": max(estimate["low"], 0.0)}, form, "–") if known else None
        return Cell(form.format(estimate["mean"]).replace(",", THIN_SPACE), interval)

    def _why(self, name: str, metric: str) -> str | None:
        reasons = (self._models[model]["not_measured"].get(metric) for model in (name, "retrained"))
        return next((reason for reason in reasons if reason), None)

    def _group(self, name: str) -> tuple[bool, bool]:
        return self._is_gold(name), not self._methods[name]["matched"]

    def _is_gold(self, name: str) -> bool:
        return self._methods[name]["settings"]["method"] == GOLD

    def _is_variant(self, name: str) -> bool:
        return self._methods[name]["settings"]["method"] != name

    def role(self, name: str) -> str:
        """What is to be said of a model that is not the best."""
        if name in MODELS:
            return MODELS[name][1]
        if self._is_gold(name):
            return "the reference itself"
        known = self._methods[name][LOSS].get(RETAIN_METRIC) is not None
        return "costs others too much" if known and not self._methods[name]["matched"] else ""

    def _training(self, name: str) -> str:
        method = self._methods[name]
        trained = method["trainable_parameters"]
        return TRAINS[method["settings"]["scope"]] if trained and trained["mean"] else "trains nothing"


def _table(
    caption: str,
    columns: Mapping[str, Column],
    names: Sequence[str],
    own: Callable[[str], Cells],
    role: Callable[[str], str] = lambda name: "",
    printed: Callable[[str], Cells] = lambda name: {},
) -> ScoreTable:
    """A row per model, and under it the paper's where the paper has it. `own`, `printed`: name -> column -> cell."""
    rows = []
    for name in names:
        style = "unlearned" if name == OURS else name if name in MODELS else "method"
        cells = own(name)
        rows.append(Row(name, role(name), style, tuple(cells[column] for column in columns)))
        if published := printed(name):
            shown = tuple(published.get(column, ABSENT) for column in columns)
            rows.append(Row(paper.printed_name(name), "in the paper", "paper", shown))
    return ScoreTable(caption, tuple(columns.values()), tuple(rows))


def _interval(estimate: dict[str, Any], form: str, between: str, scale: float = 1) -> str | None:
    if estimate["low"] is None:
        return None
    low, high = (form.format(scale * estimate[end]).replace(",", THIN_SPACE) for end in ("low", "high"))
    return f"{low}{between}{high}"


def _risen(attack: dict[str, Any], metric: str) -> float | None:
    """Last accuracy of an attack's mean curve minus the first."""
    if not attack["curve"]:
        return None
    first, last = (attack["curve"][place][metric] for place in (0, -1))
    return None if first is None or last is None else last - first


def budget_in_words(sampling: str, percent: str) -> str:
    """'20 % of the people'."""
    return f"{percent} % of the {SAMPLED[sampling]}"


def sizes(estimates: Iterable[Estimate]) -> tuple[str, str]:
    """Over how many people and seeds a column is; empty where nothing was measured."""
    measured = next((estimate for estimate in estimates if estimate), None)
    if measured is None:
        return "", ""
    return counted(measured["n"], "person", "people"), counted(measured["n_seeds"], "seed", "seeds")
