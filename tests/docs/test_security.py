"""Each line of docs/security.md that says what holds names tests that there are."""

import ast
import re

import pytest
from documents import ROOT

DEFENDED = (ROOT / "docs" / "security.md").read_text().partition("## In the cluster")[2].partition("## Not defended")[0]
LINES = re.findall(r"^- (.+)((?:\n  .+)*)", DEFENDED, re.M)
NAMED = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")


def test_nothing_but_such_lines_stands_there() -> None:
    assert len(LINES) > 40
    assert {line[:2] for line in DEFENDED.splitlines() if line} == {"- ", "  ", "##"}


@pytest.mark.parametrize(("says", "tests"), LINES, ids=[says[:60] for says, _ in LINES])
def test_a_line_names_its_test(says: str, tests: str) -> None:
    named = NAMED.findall(tests)
    assert named, f"no test is named for: {says}"
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {test}"
