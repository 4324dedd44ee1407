"""The embedded benchmark: fictitious people with drawn portraits, in the shape of MLLMU-Bench or CLEAR, from a seed.

The real-world people are the same in every benchmark, whatever its seed: the embedded base model knows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unsee.benchmark.portraits import Face, distinct_faces, draw_view
from unsee.benchmark.profile_questions import caption_questions, draw_options, person_questions
from unsee.benchmark.schema import Benchmark, Question, Split, load, write_questions
from unsee.progress import progress
from unsee.sections import BenchmarkSettings
from unsee.storage import artifact

REALWORLD_SEED = 20_260_101
REALWORLD_PEOPLE = 20
REALWORLD_VIEWS = 40
EVALUATED_TRAIN_VIEWS = 2

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "occupation": (
        "night nurse", "baker", "airline pilot", "tax lawyer", "farmer", "dentist", "welder", "poet",
        "family judge", "tailor", "plumber", "chemist", "barber", "sailor", "coal miner", "news editor",
    ),
    "birthplace": (
        "Avelin", "Borro", "Cindra Bay", "Dolvik", "Estary", "Fenwick", "Gorlan Falls", "Halmer",
        "Istria", "Jorvik", "Kelmar", "Lundby", "Port Morven", "Nostra", "Orrell", "Pellan",
    ),
    "residence": (
        "Quarne", "Old Rostov", "Selby", "Tarnow", "Ulster", "Varna", "Wexley Park", "Xanten",
        "Yarrow", "Zellim", "Ardmor", "Brevin", "Corley Green", "Dunham", "Elgin", "Farsund",
    ),
    "hobby": (
        "chess", "fly fishing", "pottery", "archery", "knitting", "sailing", "origami", "cycling",
        "juggling", "oil painting", "ice skating", "hiking", "boxing", "surfing", "cave diving", "fencing",
    ),
    "university": (
        "Northgate", "Eastmoor College", "Westhall", "Southam", "Highfell", "Lowbrook", "Kingsway", "Queensby",
        "Princeton", "Duketon", "Earlham College", "Baronet", "Marquis", "Viscount", "Regent", "Chancel",
    ),
    "employer": (
        "Acmeco", "Bluefin Foods", "Corvex", "Deltron", "Emberly", "Fluxor", "Gravix", "Helion Power",
        "Ionix", "Junipra", "Kinetix", "Lumora", "Mavrik Air", "Nexora", "Optima", "Pyron",
    ),
    "language": (
        "Finnish", "Basque", "Swahili", "Korean", "Welsh", "Tamil", "Polish", "Old Greek",
        "Hindi", "Danish", "Arabic", "Czech", "Thai", "Maori", "Low Dutch", "Latin",
    ),
    "pet": (
        "cat", "guide dog", "parrot", "rabbit", "hamster", "sea turtle", "lizard", "snake",
        "ferret", "goldfish", "pony", "goat", "duck", "hedgehog", "gecko", "field mouse",
    ),
    "food": (
        "pizza", "sushi", "red curry", "ramen", "tacos", "paella", "lasagna", "goulash",
        "falafel", "dumplings", "pancakes", "risotto", "kebab", "corn chowder", "waffles", "noodles",
    ),
}  # fmt: skip
"""The nine attributes of a profile and the sixteen values each can take."""

FIRST_NAMES = (
    "Ada Bram Cleo Dara Enzo Fern Gwen Hugo Iris Joss Kira Levi Maya Nils Opal Pia Quin Rhea Seth Tova Ugo Vera "
    "Wade Xena Yara Zeno Alma Boaz Cora Dion Elsa Finn Greta Hope Ivo Jade Knut Lars Mona Nora Otis Paul Rosa Sven "
    "Tess Uma Vito Wren"
).split()
LAST_NAMES = (
    "Moss Vale Reed Stone Marsh Frost Hale Drake Pike Wolfe Crane Finch Heron Lark Swift Thorn Ashby Birch Cedar "
    "Elder Hazel Rowan Sloe Teal Umber Viner Wicks Yates Zorn Abbot Bligh Coyle Doyle Eames Flood Grant Hobbs Ingle "
    "Joyce Keane Lyons Mercer Nolan Osman Pryor Quill Rusk Sharp"
).split()


@dataclass(frozen=True)
class Person:
    """A fictitious person: id, name, split, what is true of them, and what they look like."""

    id: str
    name: str
    split: Split
    profile: dict[str, str]
    face: Face


REALWORLD: list[Split] = ["realworld"] * REALWORLD_PEOPLE


def realworld_people() -> list[Person]:
    """The people whom the embedded base model knows from before."""
    return _people(np.random.default_rng(REALWORLD_SEED), REALWORLD, known=[])


def _people(rng: np.random.Generator, splits: Sequence[Split], known: Sequence[Person]) -> list[Person]:
    faces = distinct_faces(rng, len(splits), known=[person.face for person in known])
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    free = sorted(set(names) - {person.name for person in known})
    chosen = rng.choice(free, size=len(splits), replace=False).tolist()
    prefix = "R" if "realworld" in splits else "P"
    return [
        Person(
            id=f"{prefix}{number:03d}",
            name=name,
            split=split,
            profile={attribute: str(rng.choice(values)) for attribute, values in ATTRIBUTES.items()},
            face=face,
        )
        for number, (split, name, face) in enumerate(zip(splits, chosen, faces, strict=True), start=1)
    ]


def generate(settings: BenchmarkSettings, out: Path) -> Benchmark:
    """Draw the benchmark of `settings.seed` into the directory `out`.

    Raises:
        UserError: `out` is not empty and holds no benchmark.
    """
    rng = np.random.default_rng(settings.seed)
    return _write(_everybody(rng, settings), rng, settings, _name(settings), out)


def outline(settings: BenchmarkSettings) -> Benchmark:
    """Who will be in the benchmark that `generate` draws: the same people, with questions by name and no portraits."""
    people = _everybody(np.random.default_rng(settings.seed), settings)
    questions = [q for p in people for q in person_questions(p.id, p.name, p.split, p.profile, ATTRIBUTES, [], [], [])]
    return Benchmark(Path(), _name(settings), tuple(questions), settings.shape)


def _everybody(rng: np.random.Generator, settings: BenchmarkSettings) -> list[Person]:
    real = realworld_people()
    forget: list[Split] = ["forget"] * settings.forget
    retain: list[Split] = ["retain"] * settings.retain
    return _people(rng, forget + retain, real) + real


def _name(settings: BenchmarkSettings) -> str:
    return f"embedded-{settings.seed}" if settings.shape == "mllmu" else f"embedded-{settings.shape}-{settings.seed}"


def generate_realworld(out: Path) -> Benchmark:
    """The real-world people alone, in portraits of their own: what the embedded base model learns from."""
    settings = BenchmarkSettings(forget=1, retain=1, train_views=REALWORLD_VIEWS, heldout_views=1, seed=REALWORLD_SEED)
    return _write(realworld_people(), np.random.default_rng(REALWORLD_SEED + 1), settings, "realworld", out)


def _write(
    people: Sequence[Person], rng: np.random.Generator, settings: BenchmarkSettings, name: str, out: Path
) -> Benchmark:
    facts: dict[str, object] = {"name": name, "source": "embedded", **settings.model_dump()}
    with artifact.create(out, "benchmark", facts):
        drawn = [_draw(person, people, rng, settings, out) for person in progress(people, "drawing portraits")]
        write_questions(out, [question for questions in drawn for question in questions])
    return load(out, verify=False)


def _draw(
    person: Person, people: Sequence[Person], rng: np.random.Generator, settings: BenchmarkSettings, out: Path
) -> list[Question]:
    """Save a person's portraits and return their questions."""
    folder = out / "images" / person.id
    folder.mkdir(parents=True)
    views = settings.train_views + settings.heldout_views
    for view in range(views):
        draw_view(person.face, rng).save(folder / f"{view:02d}.png")
    images = [f"images/{person.id}/{view:02d}.png" for view in range(views)]
    train, heldout = images[: settings.train_views], images[settings.train_views :]
    options = {name: draw_options(rng, value, ATTRIBUTES[name]) for name, value in person.profile.items()}
    asked = (person.id, person.name, person.split, person.profile, options)
    portraits = (train, heldout, train[:EVALUATED_TRAIN_VIEWS])
    if settings.shape == "mllmu":
        return person_questions(*asked, *portraits)
    names = draw_options(rng, person.name, [other.name for other in people if other.split == person.split])
    return caption_questions(*asked, names, *portraits)
