"""A finished comparison as a page in Markdown: `python docs/compared.py runs/compare/comparison.json`.

It holds what the comparison's own report.html says in words and tables, with the paper's rows.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import line

from unsee.comparison.tables import ComparisonTables
from unsee.comparison.verdict import headline, sentences, subject
from unsee.report.tables import Cell, ScoreTable


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison", type=Path, help="comparison.json, as unsee compare writes it")
    request = parser.parse_args()
    print("\n".join(page(json.loads(request.comparison.read_text()))))


def page(comparison: dict[str, Any]) -> Iterator[str]:
    """The page's lines."""
    tables = ComparisonTables(comparison)
    yield f"## {headline(comparison)}\n"
    yield f"{subject(comparison)}; seeds {', '.join(map(str, comparison['seeds']))}.\n"
    yield from (f"- {sentence}" for sentence in sentences(comparison))
    found = [tables.effectiveness(), tables.pairs(), tables.ablation(), tables.costs()]
    for attack in tables.attacks():
        found += tables.relearning(*attack)
    for table in found:
        if table is not None:
            yield from markdown(table)
    yield ""
    yield from (f"{number}. {reason}" for number, reason in enumerate(tables.notes.reasons, start=1))


def markdown(table: ScoreTable) -> Iterator[str]:
    """A table's lines: models down, metrics across, intervals in brackets."""
    yield f"\n### {table.caption}\n"
    yield line(["", *(f"{column.group}: {column.label}" for column in table.columns)])
    yield line(["---", *["---:"] * len(table.columns)])
    for row in table.rows:
        label = f"{row.label}, {row.detail}" if row.detail else row.label
        yield line([f"*{label}*" if row.style == "paper" else label, *map(shown, row.cells)])


def shown(cell: Cell) -> str:
    """A number with its interval, or where the reason stands why there is none."""
    if cell.text is None:
        return f"– ({cell.note})"
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


if __name__ == "__main__":
    main()
