"""A benchmark at a glance: one PNG with a row of portraits per person, grouped by split."""

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, ImageOps

from unsee.benchmark.schema import Benchmark, Split, View
from unsee.storage import artifact

PEOPLE_PER_SPLIT = 8
MAX_TRAIN = 8
MAX_HELDOUT = 4
FACTS = 2

MARGIN = 32
GAP = 8
GROUP_GAP = 28
TILE = 96
LABEL = 250
HEADER = 104
SECTION = 62

INK = "#1d2433"
MUTED = "#667085"
PAPER = "#ffffff"
EMPTY = "#f2f4f7"
HELDOUT = "#d9730d"
SPLITS: dict[Split | None, tuple[str, str]] = {
    "forget": ("Forget", "#c0362c"),
    "retain": ("Retain", "#1f7a4d"),
    "realworld": ("Real-world", "#2456a6"),
    None: ("No split suggested", "#667085"),
}


@dataclass
class _Person:
    entity_id: str
    name: str
    split: Split | None
    facts: list[str] = field(default_factory=list)
    views: dict[View, list[str]] = field(default_factory=lambda: {"train": [], "heldout": []})


@dataclass(frozen=True)
class _Layout:
    """How many columns of train and of held-out views the sheet has, and where they begin."""

    train: int
    heldout: int

    @property
    def heldout_left(self) -> int:
        return MARGIN + LABEL + self.train * (TILE + GAP) + GROUP_GAP

    @property
    def width(self) -> int:
        return max(self.heldout_left + self.heldout * (TILE + GAP), 760) + MARGIN

    def left(self, view: View, column: int) -> int:
        start = MARGIN + LABEL if view == "train" else self.heldout_left
        return start + column * (TILE + GAP)


def draw(benchmark: Benchmark, out: Path) -> None:
    """Write a PNG that shows who is in the benchmark: per split the first people with two facts and their portraits.

    Held-out views stand apart on the right in a coloured frame. A benchmark without images gets empty rows.
    """
    groups = _groups(_people(benchmark))
    layout = _layout([person for group in groups.values() for person in group[:PEOPLE_PER_SPLIT]])
    rows = sum(min(len(group), PEOPLE_PER_SPLIT) for group in groups.values())
    height = HEADER + len(groups) * SECTION + rows * (TILE + GAP) + MARGIN
    sheet = Image.new("RGB", (layout.width, height), PAPER)
    _draw_header(sheet, benchmark, layout)
    top = HEADER
    for split, group in groups.items():
        _draw_section(sheet, split, len(group), top)
        top += SECTION
        for person in group[:PEOPLE_PER_SPLIT]:
            _draw_person(sheet, benchmark.directory, person, layout, top)
            top += TILE + GAP
    _save(sheet, out)


def _people(benchmark: Benchmark) -> list[_Person]:
    people: dict[str, _Person] = {}
    for question in benchmark.questions:
        fresh = _Person(question.entity_id, question.entity_name, question.split)
        person = people.setdefault(question.entity_id, fresh)
        if question.task == "classification" and question.answer not in person.facts:
            person.facts.append(question.answer)
        if question.image and question.view and question.image not in person.views[question.view]:
            person.views[question.view].append(question.image)
    return list(people.values())


def _groups(people: Sequence[_Person]) -> dict[Split | None, list[_Person]]:
    groups: dict[Split | None, list[_Person]] = defaultdict(list)
    for person in people:
        groups[person.split].append(person)
    return {split: groups[split] for split in SPLITS if split in groups}


def _layout(people: Sequence[_Person]) -> _Layout:
    def most(view: View) -> int:
        return max((len(person.views[view]) for person in people), default=0)

    return _Layout(min(most("train"), MAX_TRAIN), min(most("heldout"), MAX_HELDOUT))


def _draw_header(sheet: Image.Image, benchmark: Benchmark, layout: _Layout) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 22), _fit(benchmark.name, 26, sheet.width - 2 * MARGIN), fill=INK, font=_font(26))
    counts = " · ".join(f"{number:,} {name}" for name, number in benchmark.counts.items())
    pen.text((MARGIN, 58), _fit(counts, 13, sheet.width - 2 * MARGIN), fill=MUTED, font=_font(13))
    columns: tuple[tuple[View, str, str, int], ...] = (
        ("train", "views trained on", MUTED, layout.train),
        ("heldout", "held-out views", HELDOUT, layout.heldout),
    )
    for view, title, colour, number in columns:
        if number:
            pen.text((layout.left(view, 0), HEADER - 18), title, fill=colour, font=_font(13))


def _draw_section(sheet: Image.Image, split: Split | None, total: int, top: int) -> None:
    title, colour = SPLITS[split]
    pen = ImageDraw.Draw(sheet)
    pen.rounded_rectangle((MARGIN, top + 20, MARGIN + 5, top + 44), 2, fill=colour)
    pen.text((MARGIN + 16, top + 20), title, fill=colour, font=_font(20))
    people = "1 person" if total == 1 else f"{total} people"
    shown = people if total <= PEOPLE_PER_SPLIT else f"{people}, the first {PEOPLE_PER_SPLIT} shown"
    left = MARGIN + 28 + _font(20).getlength(title)
    pen.text((left, top + 26), shown, fill=MUTED, font=_font(13))


def _draw_person(sheet: Image.Image, directory: Path, person: _Person, layout: _Layout, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    for offset, size, colour, text in _label(person):
        pen.text((MARGIN, top + offset), _fit(text, size, LABEL - 20), fill=colour, font=_font(size))
    columns: tuple[tuple[View, int], ...] = (("train", layout.train), ("heldout", layout.heldout))
    for view, number in columns:
        for column, image in enumerate(person.views[view][:number]):
            _draw_tile(sheet, directory / image, layout.left(view, column), top, HELDOUT if view == "heldout" else None)


def _label(person: _Person) -> Iterator[tuple[int, int, str, str]]:
    """Vertical offset, font size, colour and text of each line beside a row of portraits."""
    yield 6, 17, INK, person.name
    yield 29, 12, MUTED, person.entity_id
    for line, fact in enumerate(person.facts[:FACTS]):
        yield 50 + 18 * line, 13, INK, fact


def _draw_tile(sheet: Image.Image, path: Path, left: int, top: int, frame: str | None) -> None:
    with Image.open(path) as image:
        sheet.paste(ImageOps.pad(image.convert("RGB"), (TILE, TILE), color=EMPTY), (left, top))
    if frame:
        ImageDraw.Draw(sheet).rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), outline=frame, width=2)


def _fit(text: str, size: int, width: float) -> str:
    """The text, shortened with an ellipsis until it is at most `width` pixels long."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the letters that Pillow's own font lacks (Å, ł, Ж, …)."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _save(sheet: Image.Image, out: Path) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    artifact.write_bytes(out, buffer.getvalue())
