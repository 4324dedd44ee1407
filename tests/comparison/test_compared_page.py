"""`docs/compared.py`: a comparison as a page in Markdown."""

import json
import re
import subprocess
import sys
from pathlib import Path

import compared
from documents import ROOT
from made_seeds import NO_ATTACK, Compared


def test_tables_are_whole_and_say_what_the_report_says(two_seeds: Compared, tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(two_seeds.comparison))
    command = [sys.executable, str(ROOT / "docs" / "compared.py"), str(file)]
    written = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert written.startswith("## Closest to a model that never saw them: vkd, 2.5 points away\n")
    assert "- Not ranked, because the people who stay lose more than 2 points: ga.\n" in written
    assert re.search(r"^\| vkd \| 2\.5 \(0\.0–[\d.]+\) \|", written, flags=re.M)
    assert re.search(r"^\| \*Ours \(VKD\), in the paper\* \| – \|", written, flags=re.M)
    assert "\n- npo, teacher_accuracy/both: 37.5 %\n" in written
    tables = [block.splitlines() for block in written.split("\n\n") if block.startswith("|")]
    assert len(tables) == written.count("### ") > 3
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_what_was_not_measured_points_to_its_reason(one_person: Compared) -> None:
    lines = list(compared.page(one_person.comparison))
    number = next(line.partition(".")[0] for line in lines if line.endswith(NO_ATTACK))
    assert any(line.startswith("| vkd ") and f"| – ({number})" in line for line in lines)
