"""The paper's numbers as typed in."""

from importlib import resources

import pytest
import yaml

from unsee.comparison import paper

SETTINGS = [
    f"{model}, {benchmark}" for model in ("LLaVA-1.5-7B", "Qwen2-VL-7B") for benchmark in ("MLLMU-Bench", "CLEAR")
]
TABLES = [
    *map(paper.effectiveness, SETTINGS),
    paper.efficiency(),
    paper.ablation(),
    *map(paper.relearning, ("forget/vqa/accuracy", "forget/qa/accuracy")),
]


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_as_many_cells_as_columns(table: paper.PaperTable) -> None:
    assert table.rows
    assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_some_cells() -> None:
    assert paper.effectiveness().row("vkd")["forget/vqa/accuracy"] == 29.8
    assert paper.effectiveness("LLaVA-1.5-7B, CLEAR").row("manu")["retain/vqa/accuracy"] == 25.8
    assert paper.effectiveness("Qwen2-VL-7B, MLLMU-Bench").row("npo")["realworld/qa/accuracy"] == 78.3
    assert paper.effectiveness("Qwen2-VL-7B, CLEAR").row("mmunlearner")["retain/qa/rouge_l"] == 0.1
    assert paper.efficiency().row("npo")["minutes"] == 61.3
    assert paper.ablation().row("f")["realworld/vqa/accuracy"] == 19.8
    assert paper.relearning("forget/qa/accuracy").row("manu")["epoch_5"] == 37.6


def test_gaps_are_the_last_epoch_minus_the_start() -> None:
    for metric in ("forget/vqa/accuracy", "forget/qa/accuracy"):
        table = paper.relearning(metric)
        for name in table.rows:
            row = table.row(name)
            assert row["gap"] == pytest.approx(row["epoch_5"] - row["before"])


def test_the_ablation_starts_from_ga_diff() -> None:
    assert paper.ablation().row("b") == paper.effectiveness().row("ga_diff")


def test_every_row_has_a_printed_name() -> None:
    printed = yaml.safe_load((resources.files("unsee.report") / "paper.yaml").read_text())["names"]
    assert {name for table in TABLES for name in table.rows} == set(printed)


def test_what_the_paper_has_not_is_empty() -> None:
    assert paper.effectiveness().row("vgid") == {}
    assert paper.effectiveness("new, CLEAR").row("vkd") == {}
    assert paper.ablation("LLaVA-1.5-7B, CLEAR").row("vkd") == {}
    assert paper.relearning("forget/vqa/accuracy", "Qwen2-VL-7B, MLLMU-Bench").row("vkd") == {}


def test_our_families_and_shapes_are_the_four_blocks() -> None:
    found = [paper.setting(family, shape) for family in ("llava", "qwen2_vl") for shape in ("mllmu", "clear")]
    assert [*paper.settings()] == found == SETTINGS
    assert "forget/qa/rouge_l" in paper.columns("clear")
    assert paper.columns("mllmu") == paper.effectiveness().columns
