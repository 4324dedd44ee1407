"""Write the table of values in a chart's README.md from the comments of its values.yaml: `python charts/readme.py`.

A comment that begins with `# --`, as helm-docs has it, tells of the value that follows it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "unsee"
HEADING = "## Values\n"


def readme(chart: Path) -> str:
    """The text of the README: what a person wrote before the heading, and the values after it."""
    written, _, _ = (chart / "README.md").read_text().partition(HEADING)
    rows = [f"| `{name}` | `{default}` | {meaning} |\n" for name, default, meaning in described(chart / "values.yaml")]
    return "".join([written, HEADING, "\n| value | default | meaning |\n|---|---|---|\n", *rows])


def described(values: Path) -> Iterator[tuple[str, str, str]]:
    """Name, default in JSON and meaning of each value that a comment tells of."""
    text = values.read_text()
    lines = text.splitlines()
    for name, line, value in _keys(yaml.compose(text)):
        above = line
        while above and lines[above - 1].lstrip().startswith("#"):
            above -= 1
        comment = " ".join(text.strip().removeprefix("#").strip() for text in lines[above:line])
        if found := re.match("-- (.+)", comment):
            yield name, json.dumps(value, ensure_ascii=False), found[1]


def _keys(node: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, int, Any]]:
    """Every key's full name, line and value."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line, yaml.safe_load(yaml.serialize(value))
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, f"{name}.")


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme(CHART))
