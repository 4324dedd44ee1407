"""A finished comparison as a page in Markdown: `python docs/compared.py runs/compare/comparison.json`.

It holds what the comparison's own report.html says in words and tables, with the paper's rows. Of a search
(`runs/search/search.json`), what was tried for every method.
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
    parser.add_argument("file", type=Path, help="comparison.json or search.json, as unsee writes it")
    found = json.loads(parser.parse_args().file.read_text())
    print("\n".join(searched(found) if "rule" in found else page(found)))


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
    for name, method in comparison["methods"].items():
        known = ((fact, estimate["mean"]) for fact, estimate in method["told"].items() if estimate)
        yield from (f"- {name}, {fact}: {100 * mean:.1f} %" for fact, mean in known)
    yield from (f"{number}. {reason}" for number, reason in enumerate(tables.notes.reasons, start=1))


def searched(search: dict[str, Any]) -> Iterator[str]:
    """A row per candidate, the chosen ones in bold: points and percent, means over the tuning seeds."""
    figures = {
        "distance to retrained": "distance",
        "forget VQA, unseen": "forget_accuracy",
        "lost by people who stay": "retain_loss",
        "by real-world people": "realworld_loss",
    }
    yield line(["method", "settings", *figures])
    yield line(["---", "---", *["---:"] * len(figures)])
    for method, found in search["methods"].items():
        for name, candidate in found["candidates"].items():
            settings = ", ".join(f"{s.removeprefix('unlearn.')} {v}" for s, v in candidate["settings"].items())
            estimates = (candidate[figure] for figure in figures.values())
            cells = [method, settings, *(f"{100 * each['mean']:.1f}" if each else "–" for each in estimates)]
            yield line([f"**{cell}**" for cell in cells] if name == found["chosen"] else cells)


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
