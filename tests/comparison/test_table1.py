"""Table 1 of several comparisons: which blocks it has, in which order, and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_seeds import SUBJECT, Compared, Outcome, compared, make_seed
from pages import Elements, text

from unsee.comparison import table1
from unsee.errors import UserError

METHODS = {"vkd": Outcome(0.25), "ga": Outcome(0.05, retain=0.5)}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(family, shape, methods): the directory of such a comparison."""

    def made(family: str, shape: str, methods: dict[str, Outcome] = METHODS) -> Path:
        root = tmp_path / f"{family}-{shape}"
        subject = {**SUBJECT, "family": family, "shape": shape}
        return compared(root, [make_seed(root, 0, methods, subject=subject)]).directory

    return made


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / table1.TABLE).open() as file:
        return list(csv.DictReader(file))


def test_blocks_are_in_the_paper_s_order_with_their_own_methods(make: Make, tmp_path: Path) -> None:
    given = [make("new", "mllmu"), make("qwen2_vl", "clear", {"npo": Outcome(0.3)}), make("llava", "mllmu")]
    blocks = table1.write(given, tmp_path / "out")
    assert [block.setting for block in blocks] == [
        "LLaVA-1.5-7B, MLLMU-Bench",
        "Qwen2-VL-7B, CLEAR",
        "new, MLLMU-Bench",
    ]
    names = {block.setting: [row.label for row in block.table.rows] for block in blocks}
    assert names == {
        "LLaVA-1.5-7B, MLLMU-Bench": ["vanilla", "Vanilla", "retrained", "vkd", "Ours (VKD)", "ga", "GA"],
        "Qwen2-VL-7B, CLEAR": ["vanilla", "Vanilla", "retrained", "npo", "NPO"],
        "new, MLLMU-Bench": ["vanilla", "retrained", "vkd", "ga"],
    }


def test_paper_s_numbers_are_marked_and_empty_where_it_has_none(make: Make, tmp_path: Path) -> None:
    table1.write([make("qwen2_vl", "mllmu")], tmp_path)
    found = {(row["model"], row["column"]): (row["detail"], row["value"]) for row in rows_of(tmp_path)}
    assert found["GA", "Retain: QA"] == ("in the paper", "57.6")
    assert found["GA", "Retain: VQA, unseen"] == ("in the paper", "")
    assert found["ga", "Retain: VQA, unseen"] == ("costs others too much", "50.0")


def test_what_was_not_measured_is_empty_and_explained(make: Make, tmp_path: Path) -> None:
    """The made predictions have no sentences, whatever the shape."""
    table1.write([make("llava", "clear"), make("qwen2_vl", "clear")], tmp_path)
    page = (tmp_path / table1.PAGE).read_text()
    empty = [row for row in rows_of(tmp_path) if row["model"] == "vkd" and not row["value"]]
    assert {row["column"] for row in empty if row["column"].startswith("Forget")} == {
        "Forget: QA, ROUGE-L",
        "Forget: Caption, unseen, ROUGE-L",
    }
    assert text(page).count("no such question was asked") == 1


def test_the_page_stands_alone_and_says_what_each_block_is_of(make: Make, tmp_path: Path) -> None:
    table1.write([make("llava", "mllmu")], tmp_path)
    page = (tmp_path / table1.PAGE).read_text()
    assert "LLaVA on made, in the shape of MLLMU-Bench" in text(page)
    assert "In italics: the paper’s numbers of LLaVA-1.5-7B, MLLMU-Bench" in text(page)
    assert "The paper did not measure this model" not in text(page)
    assert not Elements(page).named("script")
    assert not Elements(page).named("link")


def test_a_family_that_the_paper_has_not_stands_beside_no_numbers_of_it(make: Make, tmp_path: Path) -> None:
    given = make("new", "mllmu")
    table1.write([given], tmp_path)
    assert "The paper did not measure this model" in (tmp_path / table1.PAGE).read_text()
    page = text((given / "report.html").read_text())
    assert "another model on another benchmark, to be compared in kind" in page
    assert "The paper did not measure this model" in page
    for words in ((tmp_path / table1.PAGE).read_text(), page):
        assert "new, MLLMU-Bench" not in words


def test_the_units_of_a_comparison_s_table_are_those_of_its_columns(make: Make) -> None:
    for shape, told in (("mllmu", False), ("clear", True)):
        page = text((make("llava", shape) / "report.html").read_text())
        assert ("distance in points, ROUGE-L from 0 to 1" in page) == told


def test_two_comparisons_of_one_block_are_refused(make: Make, tmp_path: Path) -> None:
    given = make("llava", "clear")
    with pytest.raises(UserError, match=r"would both stand beside LLaVA-1\.5-7B, CLEAR in the paper"):
        table1.write([given, given], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_comparison_of_methods_is_refused(make: Make, tmp_path: Path, two_seeds: Compared) -> None:
    with pytest.raises(
        UserError, match=r"comparison\.json cannot be read .*; give a directory that unsee compare wrote"
    ):
        table1.write([tmp_path], tmp_path)
    settings = make("llava", "mllmu", {"vkd unlearn.beta=0": Outcome(0.3, settings={"method": "vkd"})})
    with pytest.raises(UserError, match="compares settings, not methods"):
        table1.write([settings], tmp_path)
    before = {name: value for name, value in two_seeds.comparison.items() if name != "family"}
    (tmp_path / "comparison.json").write_text(json.dumps(before))
    with pytest.raises(UserError, match="does not say of which model family it is; run the comparison again"):
        table1.write([tmp_path], tmp_path)
