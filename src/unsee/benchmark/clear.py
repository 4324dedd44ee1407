"""CLEAR: 200 fictitious authors of TOFU with pictures, from the hub (`therem/CLEAR`) or a local copy.

`full` has captioned pictures of everyone, `full+tofu` besides them twenty questions by name about each, in TOFU's order
and without the name in a column. `forget01`, `forget05` and `forget10` say who is to be forgotten, and
`forgetNN_perturbed` and `retain_perturbed` other names and captions for the same pictures. `real_faces` and
`real_world` are its real-world set.

Trained are the captions and the questions by name. Evaluated are the captions and the choice of the name with the
pictures of the perturbed sets, the questions by name about the people on them, and the real-world sets. The benchmark
trains every picture; here a quarter of the pictures of those who are evaluated are held out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator
from scipy.optimize import linear_sum_assignment

from unsee.benchmark.folder import HELDOUT_SHARE
from unsee.benchmark.profile_questions import Form, Person, keyed_generator
from unsee.benchmark.published import Many, Picture, Row, Tables, Text, save_picture
from unsee.benchmark.schema import Question, View
from unsee.sections import ImportSettings

NAMING = "What is the name of the person in the image?"
CAPTIONING = (
    "What can you see in this picture?",
    "Tell me about the content of this image",
    "Can you give a description of the image?",
    "What is depicted in the image?",
    "Explain what you observe in the picture.",
    "Describe the image in detail.",
    "What is the main subject of this image?",
    "Can you describe the scene or objects in the image?",
    "What is happening in this image?",
)
"""The benchmark's own wordings; a picture's is drawn from the seed."""
TOLD_OF_EACH = 20
"""Questions by name about each author, one after the other."""
LEAST_NAMED = 0.25
"""The share of an author's name that those questions hold, on average, for them to be theirs."""


class Captioned(Row):
    """A row of `full`."""

    image: Picture
    caption: Text
    name: Text


class Perturbed(Captioned):
    """A row of `forgetNN_perturbed` or `retain_perturbed`: the names that are wrong."""

    perturbed_names: Many[Text] = Field(min_length=1)


class Named(Row):
    """A row of which the person matters."""

    name: Text


class Told(Row):
    """A row of a configuration with TOFU's questions: one of them, or a picture's, which has none."""

    question: Text | None
    answer: Text | None

    @model_validator(mode="after")
    def _whole(self) -> "Told":
        if (self.question is None) != (self.answer is None):
            raise ValueError("has a question or an answer without the other; add it")
        return self

    def form(self, index: int) -> Form:
        """As it is trained and asked."""
        return Form(f"fact/{index}", "generation", self.question or "", self.answer or "")


class RealWorld(Row):
    """A row of `real_faces` or `real_world`; the options may lack the answer."""

    image: Picture
    question: Text
    answer: Text
    options: Many[Text] = Field(min_length=1)


@dataclass(frozen=True)
class Album:
    """Somebody's pictures: path -> caption, and the path of each by its content; which are held out."""

    captions: dict[str, str]
    by_content: dict[str, str]
    heldout: set[str]

    def view(self, path: str) -> View:
        """Whether a picture is trained."""
        return "heldout" if path in self.heldout else "train"


def questions(tables: Tables, directory: Path, settings: ImportSettings) -> list[Question]:
    """The benchmark's questions, its images written to the directory. Problems are left in `tables`."""
    forget_set = f"forget{settings.forget_percent:02d}"
    forget = {row.name for _, row in tables.rows(forget_set, Named)}
    albums = _albums(tables, directory)
    told = _told(tables, list(albums))
    _require_same(tables, forget_set, [row for name in forget for row in told.get(name, [])])
    tables.add_missing("full", forget, albums, f"people to forget ({forget_set})")
    people = {name: Person(name, name, "forget" if name in forget else "retain") for name in albums}
    evaluated: list[Question] = []
    shown: dict[str, None] = {}
    for configuration in (f"{forget_set}_perturbed", "retain_perturbed"):
        for where, row in tables.rows(configuration, Perturbed):
            if row.name not in people:
                tables.mismatches.append(f"{where}, name = {row.name!r}: is nobody in full; add their pictures there")
                continue
            if row.name not in shown:
                _hold_out(albums[row.name], settings.seed, row.name)
            shown[row.name] = None
            evaluated += _evaluated(people[row.name], albums[row.name], row, directory, settings.seed)
    found = evaluated + _real_world(tables, directory, settings.seed)
    for name, person in people.items():
        facts = [row.form(i) for i, row in enumerate(told.get(name, []))]
        found += person.ask(facts, "eval") if name in shown else []
        found += person.ask(facts, "train")
        for path, caption in albums[name].captions.items():
            if albums[name].view(path) == "train":
                found += person.ask_of_images([_captioning(path, caption, settings.seed)], "train", "train", [path])
    return found


def _albums(tables: Tables, directory: Path) -> dict[str, Album]:
    """Everyone's pictures, by name."""
    albums: dict[str, Album] = defaultdict(lambda: Album({}, {}, set()))
    for number, (_, row) in enumerate(tables.rows("full", Captioned)):
        path = save_picture(directory, f"people/{number:04d}", row.image)
        albums[row.name].captions[path] = row.caption
        albums[row.name].by_content[_content(row.image)] = path
    return dict(albums)


def _content(picture: Picture) -> str:
    return sha256(picture.bytes).hexdigest()


def _hold_out(album: Album, seed: int, name: str) -> None:
    """A quarter of somebody's pictures; one at least, if that leaves one to train."""
    paths = list(album.captions)
    count = max(len(paths) > 1, round(len(paths) * HELDOUT_SHARE))
    album.heldout.update(paths[i] for i in keyed_generator(seed, name).permutation(len(paths))[:count])


def _evaluated(person: Person, album: Album, row: Perturbed, directory: Path, seed: int) -> list[Question]:
    """Caption and name of one picture. One that is not in `full` is another view, which nothing is trained on."""
    content = _content(row.image)
    if content not in album.by_content:
        path = save_picture(directory, f"views/{content[:16]}", row.image)
        album.by_content[content] = path
        album.heldout.add(path)
    path = album.by_content[content]
    naming = _choice("name", NAMING, row.name, row.perturbed_names, seed, path)
    return person.ask_of_images([_captioning(path, row.caption, seed), naming], "eval", album.view(path), [path])


def _real_world(tables: Tables, directory: Path, seed: int) -> list[Question]:
    """Pictures of celebrities, and of things in the world; nothing is trained on them."""
    found: list[Question] = []
    for configuration in ("real_faces", "real_world"):
        for number, (_, row) in enumerate(tables.rows(configuration, RealWorld)):
            path = save_picture(directory, f"{configuration}/{number:04d}", row.image)
            form = _choice(f"choice/{number}", row.question, row.answer, row.options, seed, path)
            person = Person(f"{configuration}/{row.answer}", row.answer, "realworld")
            found += person.ask_of_images([form], "eval", "heldout", [path])
    return found


def _captioning(path: str, caption: str, seed: int) -> Form:
    return Form("caption", "generation", CAPTIONING[keyed_generator(seed, path).integers(len(CAPTIONING))], caption)


def _choice(label: str, question: str, answer: str, others: Iterable[str], seed: int, path: str) -> Form:
    """The answer among the others, in an order drawn from the seed."""
    options = list(dict.fromkeys([answer, *others]))
    order = keyed_generator(seed, path).permutation(len(options))
    return Form(label, "classification", question, answer, tuple(options[i] for i in order))


def _told(tables: Tables, names: Sequence[str]) -> Mapping[str, list[Told]]:
    """Whom the questions by name are about: each author's stand together, and hold the author's name."""
    rows = [row for _, row in tables.rows("full+tofu", Told) if row.question]
    blocks = [rows[start : start + TOLD_OF_EACH] for start in range(0, len(rows), TOLD_OF_EACH)]
    named = np.array([[_named(name, block) for name in names] for block in blocks]).reshape(len(blocks), len(names))
    found = {}
    for block, name in zip(*linear_sum_assignment(named, maximize=True), strict=True):
        if named[block, name] >= LEAST_NAMED:
            found[names[name]] = blocks[block]
    if lost := [TOLD_OF_EACH * number for number, block in enumerate(blocks) if block not in found.values()]:
        tables.mismatches.append(
            f"full+tofu, {TOLD_OF_EACH} questions each from its questions {', '.join(map(str, lost))} on: they hold "
            "the name of nobody in full; put them in TOFU's order"
        )
    return found


def _named(name: str, block: Sequence[Told]) -> float:
    """The share of the name's words that a question and its answer hold, mean over questions."""
    wanted = _words(name)
    shares = [len(wanted & _words(f"{row.question} {row.answer}")) / max(len(wanted), 1) for row in block]
    return sum(shares) / len(shares)


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _require_same(tables: Tables, forget_set: str, told: Sequence[Told]) -> None:
    """The questions about the people to forget must be those that the benchmark itself gives with them."""
    given = {(row.question, row.answer) for _, row in tables.rows(f"{forget_set}+tofu", Told) if row.question}
    if given != {(row.question, row.answer) for row in told}:
        tables.mismatches.append(
            f"{forget_set}+tofu: its questions are not those of full+tofu about the people in {forget_set}; take all "
            "three from one version"
        )
