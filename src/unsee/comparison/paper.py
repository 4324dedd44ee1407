"""The published numbers of the paper, typed in from its Tables 1 to 4 (`unsee/report/paper.yaml`)."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

SETTING = "LLaVA-1.5-7B, MLLMU-Bench"
"""A block of Table 1, and by their numbers the setting of Tables 3 and 4."""
RELEARNED_PERCENT = "20"
"""Percentage of the forgotten visual data that the attack of Table 4 uses."""
NOTHING: dict[str, Any] = {"columns": (), "rows": {}}


@dataclass(frozen=True)
class PaperTable:
    """Cells by row (our method names) and column (our metrics where there is one); percent, or as Table 2 has them."""

    columns: tuple[str, ...]
    rows: dict[str, tuple[Any, ...]]

    def row(self, name: str) -> dict[str, Any]:
        """Column -> cell; empty where the paper has no such row."""
        return dict(zip(self.columns, self.rows[name], strict=True)) if name in self.rows else {}


def printed_name(name: str) -> str:
    """What the paper calls one of our methods or variants."""
    return _read()["names"][name]


def benchmark(shape: str) -> str:
    """The benchmark of this shape."""
    return _read()["benchmarks"][shape]


def setting(family: str, shape: str) -> str:
    """A model of this family and the benchmark of this shape as the paper calls them, whether it has both or not."""
    return f"{_read()['models'].get(family, family)}, {benchmark(shape)}"


def settings() -> tuple[str, ...]:
    """The blocks of Table 1, in the paper's order."""
    return tuple(_read()["effectiveness"])


def columns(shape: str) -> tuple[str, ...]:
    """The metrics of Table 1 on the benchmark of this shape."""
    return effectiveness(setting("llava", shape)).columns


def effectiveness(setting: str = SETTING) -> PaperTable:
    """A block of Table 1: a model and a benchmark; empty where the paper has none."""
    return _table(_read()["effectiveness"].get(setting, NOTHING))


def efficiency() -> PaperTable:
    """Table 2, per epoch."""
    return _table(_read()["efficiency"])


def ablation(setting: str = SETTING) -> PaperTable:
    """Table 3; empty for another setting than the paper's."""
    return _table(_read()["ablation"] if setting == SETTING else NOTHING)


def relearning(metric: str, setting: str = SETTING) -> PaperTable:
    """Table 4, of forget/vqa/accuracy or forget/qa/accuracy; empty for another setting than the paper's."""
    return _table(_read()["relearning"][metric] if setting == SETTING else NOTHING)


def _table(told: dict[str, Any]) -> PaperTable:
    return PaperTable(tuple(told["columns"]), {name: tuple(cells) for name, cells in told["rows"].items()})


@cache
def _read() -> dict[str, Any]:
    return yaml.safe_load((resources.files("unsee.report") / "paper.yaml").read_text(encoding="utf-8"))
