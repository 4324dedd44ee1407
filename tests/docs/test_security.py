"""Each line of docs/security.md that says what holds names tests that there are."""

import ast
import re

import pytest
from documents import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
TABLE = re.compile(r"^\| what holds \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", re.M)
LINES = [line for table in TABLE.findall(PAGE) for line in table.splitlines()]
NAMED = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")


def test_every_table_of_what_holds_is_looked_at() -> None:
    assert len(TABLE.findall(PAGE)) == PAGE.count("| what holds |")
    assert len(LINES) > 40


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip()[:60])
def test_a_line_names_its_test(line: str) -> None:
    named = NAMED.findall(line)
    assert named, f"no test is named: {line}"
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {test}"
