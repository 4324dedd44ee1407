"""The published numbers of the paper, typed in from its Tables 1 to 4 (`unsee/report/paper.yaml`)."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

SETTING = "LLaVA-1.5-7B, MLLMU-Bench"
"""The block of Table 1, and the setting of Table 3, that ours are shown beside."""
RELEARNED_PERCENT = "20"
"""Percentage of the forgotten visual data that the attack of Table 4 uses."""


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


def effectiveness(setting: str = SETTING) -> PaperTable:
    """A block of Table 1: a model and a benchmark."""
    return _table(_read()["effectiveness"][setting])


def efficiency() -> PaperTable:
    """Table 2, per epoch."""
    return _table(_read()["efficiency"])


def ablation() -> PaperTable:
    """Table 3."""
    return _table(_read()["ablation"])


def relearning(metric: str) -> PaperTable:
    """Table 4, of forget/vqa/accuracy or forget/qa/accuracy."""
    return _table(_read()["relearning"][metric])


def _table(told: dict[str, Any]) -> PaperTable:
    return PaperTable(tuple(told["columns"]), {name: tuple(cells) for name, cells in told["rows"].items()})


@cache
def _read() -> dict[str, Any]:
    return yaml.safe_load((resources.files("unsee.report") / "paper.yaml").read_text(encoding="utf-8"))
