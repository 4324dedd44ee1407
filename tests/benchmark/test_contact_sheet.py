"""The contact sheet shows every person of a benchmark, whatever views they have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsee.benchmark import contact_sheet
from unsee.benchmark.profile_questions import person_questions
from unsee.benchmark.schema import Benchmark, Question, Split

COLOURS = {"train": (200, 30, 30), "heldout": (30, 30, 200)}
OPTIONS = {"pet": ("cat", "dog", "pony", "newt")}


def questions(directory: Path, index: int, split: Split | None, train: int, heldout: int) -> list[Question]:
    images = {"train": [f"{index}-train-{n}.png" for n in range(train)]}
    images["heldout"] = [f"{index}-heldout-{n}.png" for n in range(heldout)]
    for view, names in images.items():
        for name in names:
            Image.new("RGB", (40, 40), COLOURS[view]).save(directory / name)
    arguments = ({"pet": "cat"}, OPTIONS, images["train"], images["heldout"], images["train"])
    return person_questions(f"id{index}", f"Åsa Ж{index}", split, *arguments)


def tiles(sheet: Path, colour: tuple[int, int, int]) -> float:
    """How many tiles of this colour the sheet shows."""
    with Image.open(sheet) as image:
        return float((np.asarray(image) == colour).all(-1).sum()) / contact_sheet.TILE**2


def test_every_view_of_every_person_is_shown(tmp_path):
    rows = [*questions(tmp_path, 0, "forget", 3, 1), *questions(tmp_path, 1, "retain", 2, 2)]
    contact_sheet.draw(Benchmark(tmp_path, "two people", tuple(rows)), tmp_path / "sheet.png")
    assert tiles(tmp_path / "sheet.png", COLOURS["train"]) == 5
    assert tiles(tmp_path / "sheet.png", COLOURS["heldout"]) == 3


def test_many_people_and_views_are_cut_to_a_sheet_of_bounded_size(tmp_path):
    rows = [row for index in range(12) for row in questions(tmp_path, index, "retain", 11, 6)]
    contact_sheet.draw(Benchmark(tmp_path, "many people " * 40, tuple(rows)), tmp_path / "sheet.png")
    assert tiles(tmp_path / "sheet.png", COLOURS["train"]) == contact_sheet.PEOPLE_PER_SPLIT * contact_sheet.MAX_TRAIN
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width < 2000
        assert sheet.height < 1200


@pytest.mark.parametrize("split", ["forget", "realworld", None])
def test_people_without_images_or_split_are_listed_all_the_same(tmp_path, split):
    rows = person_questions("a", "Ada", split, {"pet": "cat"}, OPTIONS, [], [], [])
    contact_sheet.draw(Benchmark(tmp_path, "names only", tuple(rows)), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 700
        assert np.asarray(sheet).std() > 0
