"""A folder of real photographs for tests: the ten synthetic people of the `openpeople` package, cut into views.

Every person gets 16 views with the face as their subject: twelve panels of the emotions sheet, the front view of the
character sheet, the studio portrait, and the heads of the studio posture and of the selfie. Left out are back views and
profiles (a person has one of each, so nothing could be learnt about a held-out one) and four emotions that hide the
face or turn it away. Names and most facts are invented; age and height come from the package's metadata.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import openpeople
from PIL import Image

SIDE = 160
VIEWS = 16
NAMES = (
    "Amara Diallo", "Lucía Ferrer", "Hannah Brook", "Noor Haddad", "Darius Kazemi",
    "Priya Raman", "Mateo Silva", "Jonas Åkesson", "Zainab Okoro", "Elif Demir",
)  # fmt: skip
FACTS = {
    "occupation": (
        "night nurse", "bridge engineer", "piano tuner", "baker", "tax adviser",
        "bus driver", "beekeeper", "court clerk", "optician", "film editor",
    ),
    "birthplace": (
        "Riga", "Porto", "Cape Town", "Lima", "Oslo",
        "Hanoi", "Quebec City", "Accra", "Tbilisi", "San Juan",
    ),
    "hobby": (
        "kite flying", "chess", "rock climbing", "pottery", "bird watching",
        "fencing", "salsa dancing", "astronomy", "origami", "sea swimming",
    ),
    "pet": (
        "grey parrot", "tortoise", "greyhound", "black cat", "rabbit",
        "corn snake", "pony", "goldfish", "ferret", "hedgehog",
    ),
    "food": (
        "lentil soup", "sushi", "apple pie", "goulash", "mango curry",
        "falafel", "oysters", "pancakes", "risotto", "dumplings",
    ),
}  # fmt: skip
# Emotions sheets (2400 x 1792): first column's centre, column pitch, first row's top, row pitch, row height.
GRIDS = {
    "P001": (356, 562, 113, 423, 334),
    "P002": (346, 569, 59, 436, 341),
    "P003": (354, 562, 149, 413, 320),
    "P004": (316, 588, 41, 442, 353),
    "P005": (352, 565, 90, 426, 339),
    "P006": (322, 577, 64, 435, 350),
    "P007": (336, 567, 72, 434, 335),
    "P008": (348, 567, 100, 425, 335),
    "P009": (301, 599, 8, 448, 375),
    "P010": (318, 588, 52, 438, 355),
}
# Column and row of confused, thoughtful, exhausted and playful.
UNUSED_PANELS = {(3, 1), (2, 2), (0, 3), (2, 3)}
# Selfies (1696 x 2528): centre and side of the head.
SELFIE_HEADS = {
    "P001": (849, 660, 860),
    "P002": (823, 800, 900),
    "P003": (875, 733, 860),
    "P004": (650, 836, 860),
    "P005": (862, 1030, 1300),
    "P006": (849, 669, 900),
    "P007": (926, 617, 860),
    "P008": (746, 836, 1000),
    "P009": (823, 772, 1030),
    "P010": (772, 926, 1100),
}

Box = tuple[float, float, float, float]


def make(directory: Path) -> Path:
    """Write `people.jsonl` and 10 x 16 JPEG views into `directory` and return it."""
    people = [_write_person(directory, index, person) for index, person in enumerate(openpeople.curated.list())]
    lines = [json.dumps(person, ensure_ascii=False) for person in people]
    (directory / "people.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def _write_person(directory: Path, index: int, person: openpeople.types.Person) -> dict[str, object]:
    folder = Path("photos") / person.person_id
    (directory / folder).mkdir(parents=True)
    images = [f"{folder.as_posix()}/{name}.jpg" for name, _ in _views(person)]
    for image, (_, view) in zip(images, _views(person), strict=True):
        view.save(directory / image, quality=92)
    return {"id": person.person_id, "name": NAMES[index], "images": images, "facts": _facts(index, person)}


def _facts(index: int, person: openpeople.types.Person) -> dict[str, str]:
    invented = {attribute: values[index] for attribute, values in FACTS.items()}
    return {**invented, "age": person.demographics.age_range, "height": person.visible_traits.height}


def _views(person: openpeople.types.Person) -> Iterator[tuple[str, Image.Image]]:
    for asset, boxes in _boxes(person.person_id).items():
        photograph = person.load_image(asset)
        full_width = photograph.width
        photograph.draft("RGB", (photograph.width // 2, photograph.height // 2))
        scale = photograph.width / full_width
        for number, box in enumerate(boxes):
            yield f"{asset}-{number}", _crop(photograph, tuple(edge * scale for edge in box))


def _crop(photograph: Image.Image, box: Box) -> Image.Image:
    return photograph.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)


def _boxes(person_id: str) -> dict[str, list[Box]]:
    """Asset -> squares around the face, in pixels of the full photograph."""
    x, column_pitch, y, row_pitch, height = GRIDS[person_id]
    panels = [
        _square(x + column * column_pitch, y + row * row_pitch + height / 2, height - 16)
        for row in range(4)
        for column in range(4)
        if (column, row) not in UNUSED_PANELS
    ]
    return {
        "emotions_sheet": panels,
        "character_sheet": [_square(316, 375, 460)],
        "studio_portrait": [_square(1024, 950, 1880)],
        "studio_posture": [_square(770, 370, 580)],
        "amateur_selfie": [_square(*SELFIE_HEADS[person_id])],
    }


def _square(centre_x: float, centre_y: float, side: float) -> Box:
    return centre_x - side / 2, centre_y - side / 2, centre_x + side / 2, centre_y + side / 2
