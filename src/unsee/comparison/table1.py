"""Table 1 of the paper from several comparisons: a block per model family and benchmark, each beside the paper's."""

import csv
import datetime
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unsee.comparison import paper
from unsee.comparison.tables import ABSENT, ComparisonTables
from unsee.comparison.verdict import headline, subject
from unsee.errors import UserError
from unsee.report.page import environment, packaged
from unsee.report.tables import Notes, ScoreTable
from unsee.storage import artifact

PAGE, TABLE = "table1.html", "table1.csv"


@dataclass(frozen=True)
class Block:
    """One comparison in Table 1. setting: the paper's block whose numbers stand beside it, if the paper has it."""

    setting: str
    headline: str
    seeds: str
    table: ScoreTable


def write(directories: Sequence[Path], out: Path) -> list[Block]:
    """Write PAGE and TABLE to `out`; blocks are in the paper's order.

    Args:
        directories: what `unsee compare` wrote, in any order.

    Raises:
        UserError: a directory without a comparison of methods, or two of one model family on one benchmark.
    """
    by_setting: dict[str, tuple[Path, dict[str, Any]]] = {}
    for directory in directories:
        found = _read(directory)
        setting = paper.setting(found["family"], found["shape"])
        if setting in by_setting:
            raise UserError(
                f"{by_setting[setting][0]} and {directory} would both stand beside {setting} in the paper; give one"
            )
        by_setting[setting] = directory, found
    notes, order = Notes(), [*paper.settings(), *by_setting]
    blocks = [_block(*by_setting[setting], notes) for setting in sorted(by_setting, key=order.index)]
    page = environment().get_template("table1.html.j2")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    style, published = Markup(packaged("report.css")), paper.settings()
    html = page.render(style=style, today=today, blocks=blocks, published=published, notes=notes.reasons)
    artifact.write_bytes(out / PAGE, html.encode())
    artifact.write_bytes(out / TABLE, _csv(blocks).encode())
    return blocks


def _read(directory: Path) -> dict[str, Any]:
    path = directory / "comparison.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); give a directory that unsee compare wrote") from None
    if "family" not in found:
        raise UserError(f"{path} does not say of which model family it is; run the comparison again")
    return found


def _block(directory: Path, comparison: dict[str, Any], notes: Notes) -> Block:
    tables = ComparisonTables(comparison, notes)
    table = replace(tables.effectiveness(), caption=subject(comparison))
    if not any(row.style in ("unlearned", "method") for row in table.rows):
        raise UserError(f"{directory} compares settings, not methods; give a directory that unsee compare wrote")
    return Block(tables.setting, headline(comparison), ", ".join(map(str, comparison["seeds"])), table)


def _csv(blocks: Sequence[Block]) -> str:
    """One row per cell, as it is printed; empty where nothing was measured, or the paper has nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("block", "model", "detail", "column", "value", "interval"))
    for block in blocks:
        for row in block.table.rows:
            for column, cell in zip(block.table.columns, row.cells, strict=True):
                title, value = f"{column.group}: {column.label}", cell.text if cell != ABSENT else ""
                writer.writerow((block.table.caption, row.label, row.detail, title, value, cell.interval))
    return text.getvalue()
