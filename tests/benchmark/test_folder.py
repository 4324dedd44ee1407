"""A folder of photographs becomes a benchmark, or everything that is wrong with it is said at once."""

import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import openpeople_folder
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unsee.benchmark.folder import LONG_SIDE, import_folder
from unsee.benchmark.schema import ForgetRequest, load
from unsee.errors import Problems, UserError

PETS = ("cat", "dog", "pony", "newt", "hen", "goat")


def photograph(path: Path, seed: int, size: tuple[int, int] = (24, 24)) -> str:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return path.name


def people(folder: Path, number: int = 6, images: int = 4, seed: int = 0) -> list[dict]:
    """Sound people with PNG images in `folder`, to be damaged by a test and written by `write`."""
    return [
        {
            "id": f"p{i}",
            "name": f"Person {i}",
            "images": [photograph(folder / f"p{i}-{n}.png", seed + 100 * i + n) for n in range(images)],
            "facts": {"pet": PETS[i % len(PETS)]},
        }
        for i in range(number)
    ]


def write(folder: Path, lines: list[dict | str]) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "people.jsonl").write_text(text, encoding="utf-8")
    return folder


def problems_of(folder: Path, lines: list[dict | str]) -> list[str]:
    out = folder.parent / "benchmark"
    with pytest.raises(Problems) as caught:
        import_folder(write(folder, lines), out)
    assert not out.exists()
    return caught.value.problems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def test_real_photographs_are_imported_with_held_out_views_of_every_person(tmp_path):
    source = openpeople_folder.make(tmp_path / "photos")
    benchmark = import_folder(source, tmp_path / "benchmark")
    assert benchmark.entities == dict(zip(openpeople_folder.GRIDS, openpeople_folder.NAMES, strict=True))
    assert benchmark.counts == {
        "unassigned people": 10,
        "images": 10 * openpeople_folder.VIEWS,
        "eval qa questions": 10 * 12,
        "eval vqa questions": 10 * openpeople_folder.VIEWS * 12,
        "train qa questions": 10 * 12,
        "train vqa questions": 10 * 12 * 13,
    }
    views = Counter({q.image: (q.entity_id, q.view) for q in benchmark.select(role="eval", modality="vqa")}.values())
    assert set(views.values()) == {12, 4}
    assert {benchmark.image(q).size for q in benchmark.questions if q.image} == {(160, 160)}
    assert ForgetRequest.resolve(benchmark, ["P003"]).forget == ("P003",)


def test_every_kind_of_damage_is_reported_at_once_by_line_and_nothing_is_left_behind(folder):
    lines = [*people(folder, 6), *damaged_people(folder)]
    found = problems_of(folder, lines)
    reported = defaultdict(list)
    for problem in found:
        where, _, what = problem.partition(": ")
        reported[where.removeprefix("people.jsonl ")].append(what)
    for where, parts in EXPECTED.items():
        assert len(reported[where]) == len(parts), reported[where]
        for what, part in zip(sorted(reported[where]), sorted(parts), strict=True):
            assert part in what
    assert set(reported) == set(EXPECTED)
    assert all(";" in problem and "\n" not in problem for problem in found)


def damaged_people(folder: Path) -> list[dict | str]:
    """Lines 7 to 18: each with its own kinds of damage, among sound images."""
    spare = iter(people(folder / "more", 20, seed=50))

    def person(**changes: object) -> dict:
        sound = next(spare)
        images = [f"more/{name}" for name in sound["images"]]
        return {**sound, "id": f"d{sound['id']}", "name": f"D {sound['name']}", "images": images, **changes}

    damage_images(folder)
    names = [
        "missing.jpg",
        "truncated.jpg",
        "zero.png",
        "dot.png",
        "bomb.png",
        "text.jpg",
        "../outside.png",
        "link.png",
    ]
    photograph(folder / "alone.png", 9999)
    without_name = person(images=["p0-9.png", "more/p19-0.png"], facts={"pet": "dog", "ears": "two"})
    del without_name["name"]
    return [
        person(images=[*names, "/etc/hostname", "cmyk.jpg", "deep.png", "moving.gif"]),
        '{"id": "broken", "name": ',
        without_name,
        person(facts={"pet": 3}, nickname="Bob", images="one.jpg"),
        person(id="p0", facts={"pet": "cat", "shoe size": "44"}),
        person(name="Person 1", images=["p2-0.png", "copy.png"]),
        person(images=["alone.png"], facts={"pet": "cat", "eyes": "blue"}, id="a,b"),
        person(
            facts={"pet": "dog", "eyes": "brown"}, questions=[{"prompt": "?", "answer": "x", "options": ["a", "b"]}]
        ),
        person(facts={"pet": "dog", "eyes": "brown", "bad": "two\nlines"}),
        person(facts={"pet": "dog", "eyes": "brown"}, split="forgotten"),
        person(facts={"pet": "dog", "eyes": "brown"}),
        "[1, 2]",
    ]


def damage_images(folder: Path) -> None:
    photograph(folder / "truncated.jpg", 1, (64, 64))
    (folder / "truncated.jpg").write_bytes((folder / "truncated.jpg").read_bytes()[:900])
    (folder / "zero.png").touch()
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    (folder / "text.jpg").write_text("no image")
    photograph(folder.parent / "outside.png", 2)
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "copy.png").write_bytes((folder / "p3-1.png").read_bytes())
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((20, 20), 32768, np.uint16)).save(folder / "deep.png")
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 99, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])


EXPECTED = {
    "line 7": [
        "missing.jpg does not exist; add the file",
        "truncated.jpg cannot be read (image file is truncated",
        "zero.png is empty (0 bytes)",
        "dot.png is 1 x 1",
        "bomb.png has more than 80,000,000 pixels",
        "text.jpg is not an image in a known format",
        '"../outside.png" lies outside the folder',
        '"link.png" lies outside the folder',
        '"/etc/hostname" lies outside the folder',
    ],
    "line 8": ["not valid JSON (EOF while parsing"],
    "line 9": [
        'the field "name" is missing; add it',
        "p0-9.png does not exist",
        'too few values of the fact "ears": only this person has it (two); choices need 4 different values',
    ],
    "line 10": [
        '"facts.pet" is 3, not text; put it in quotes',
        'the field "nickname" is unknown',
        "\"images\" is 'one.jpg'; input should be a valid array",
    ],
    "lines 1, 11": ['the id "p0" is given more than once; give each person an id of their own'],
    "line 11": ['too few values of the fact "shoe size": only this person has it (44)'],
    "lines 2, 12": ['the name "Person 1" is given more than once'],
    "lines 3, 12": ['image "p2-0.png" is the same picture as "p2-0.png"; use every picture once'],
    "lines 4, 12": ['image "copy.png" is the same picture as "p3-1.png"'],
    "line 13": ["images given: 1; give at least 2", 'the id "a,b" holds a comma'],
    "lines 13, 14, 15, 16, 17": ['too few values of the fact "eyes": blue, brown; choices need 4'],
    "line 14": ['"questions.0" needs distinct options with the answer among them'],
    "line 15": ['"facts.bad" holds a line break'],
    "line 16": ["\"split\" is 'forgotten'; input should be 'forget', 'retain' or 'realworld'"],
    "line 18": ['"line" is [1, 2]; make it a JSON object'],
}


def test_unusual_but_readable_images_are_converted_to_rgb_png(folder):
    lines = people(folder, 4)
    damage_images(folder)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (60, 30), "green").save(folder / "turned.jpg", exif=exif)
    photograph(folder / "large.tif", 7, (1500, 300))
    lines[0]["images"] = ["cmyk.jpg", "deep.png", "moving.gif", "turned.jpg", "large.tif"]
    out = folder.parent / "benchmark"
    import_folder(write(folder, lines), out)
    converted = [Image.open(out / "images" / "0000" / f"{n}.png") for n in range(5)]
    assert {(image.format, image.mode) for image in converted} == {("PNG", "RGB")}
    assert [image.getpixel((9, 9)) for image in converted[1:3]] == [(128, 128, 128), (0, 0, 0)]
    red, green, blue = converted[0].getpixel((9, 9))
    assert red > 240 > 20 > max(green, blue)
    assert converted[3].size == (30, 60)
    assert converted[4].size == (LONG_SIDE, 205)


def test_the_same_seed_gives_the_same_rows_and_another_one_other_views(folder):
    write(folder, people(folder, 6, images=8))
    first, again, other = (
        import_folder(folder, folder.parent / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.questions == again.questions
    assert first.questions != other.questions


def test_a_person_who_joins_changes_nobody_elses_held_out_views(folder):
    lines = people(folder, 6, images=8)
    before = import_folder(write(folder, lines[:5]), folder.parent / "before")
    after = import_folder(write(folder, lines), folder.parent / "after")
    heldout = {q.image for q in after.select(view="heldout") if q.entity_id != "p5"}
    assert heldout == {q.image for q in before.select(view="heldout")}


@pytest.mark.parametrize(("images", "heldout"), [(2, 1), (3, 1), (4, 1), (6, 2), (8, 2), (12, 3)])
def test_about_a_quarter_of_the_images_and_at_least_one_is_held_out(folder, images, heldout):
    benchmark = import_folder(write(folder, people(folder, 4, images)), folder.parent / "benchmark")
    for entity in benchmark.entities:
        held = {q.image for q in benchmark.select(entity_id=entity, view="heldout")}
        trained = {q.image for q in benchmark.select(entity_id=entity, role="train", modality="vqa")}
        assert (len(held), len(trained)) == (heldout, images - heldout)
        assert not held & trained


def test_a_person_who_lacks_an_attribute_is_asked_fewer_questions(folder):
    lines = people(folder, 6)
    for index, line in enumerate(lines[:5]):
        line["facts"]["food"] = f"dish {index}"
    benchmark = import_folder(write(folder, lines), folder.parent / "benchmark")
    asked = Counter(q.entity_id for q in benchmark.select(role="eval", modality="qa"))
    assert asked["p5"] < asked["p4"]


def test_any_text_serves_as_id_name_and_fact(folder):
    ids = ["../../etc", "a/b", "CON", "…", "名前", "a b"]
    lines = people(folder, 6)
    for line, name in zip(lines, ids, strict=True):
        line.update(id=name, name=f"{name} {{who}}", facts={"größe {value}": f"{{{name}}} 100 %"})
    benchmark = import_folder(write(folder, lines), folder.parent / "benchmark")
    assert list(benchmark.entities) == ids
    assert {q.answer for q in benchmark.select(task="classification", modality="qa")} == {f"{{{i}}} 100 %" for i in ids}
    written = {path.parent for path in (folder.parent / "benchmark").rglob("*.png")}
    assert written == {folder.parent / "benchmark" / "images" / f"{n:04d}" for n in range(6)}


def test_own_questions_are_asked_with_every_image_and_splits_are_kept(folder):
    lines = people(folder, 4)
    lines[0]["split"] = "forget"
    lines[0]["questions"] = [
        {"prompt": "What does {who} wear?", "answer": "a hat", "options": ["a scarf", "a hat"]},
        {"prompt": "Where is {who}?", "answer": "in a park"},
        {"prompt": "{who} holds a [Blank].", "answer": "cup", "task": "cloze"},
    ]
    benchmark = import_folder(write(folder, lines), folder.parent / "benchmark")
    hats = benchmark.select(prompt="What does this person wear?")
    assert Counter((q.role, q.view, q.task, q.answer_index) for q in hats) == {
        ("eval", "train", "classification", 1): 3,
        ("eval", "heldout", "classification", 1): 1,
        ("train", "train", "generation", None): 3,
    }
    assert {q.task for q in benchmark.select(answer="in a park")} == {"generation"}
    assert {q.prompt for q in benchmark.select(task="cloze")} >= {"this person holds a [Blank]."}
    assert ForgetRequest.resolve(benchmark, []).forget == ("p0",)


def test_a_windows_text_file_with_byte_order_mark_and_blank_lines_is_read(folder):
    lines = [json.dumps(person) for person in people(folder, 4)]
    (folder / "people.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\r\n")
    assert len(import_folder(folder, folder.parent / "benchmark").entities) == 4


def test_one_person_alone_is_refused(folder):
    found = problems_of(folder, people(folder, 1))
    assert found[0] == "people.jsonl: people found: 1; give at least 2, one of them to retain"
    assert 'too few values of the fact "pet": only this person has it (cat)' in found[1]


def test_a_picture_used_twice_for_one_person_is_refused_since_it_could_be_trained_on_and_held_out(folder):
    lines = people(folder, 4)
    lines[2]["images"].append("./p2-0.png")
    assert problems_of(folder, lines) == [
        'people.jsonl line 3: image "./p2-0.png" is the same picture as "p2-0.png"; use every picture once'
    ]


@pytest.mark.parametrize("token", ["<image>", "</s>", "<|endoftext|>"])
def test_text_that_models_read_as_a_command_is_refused(folder, token):
    lines = people(folder, 4)
    lines[1]["name"] = f"Ada {token} Moss"
    assert problems_of(folder, lines) == [
        f'people.jsonl line 2: "name" holds {token}, which models read as a command; write it without the brackets'
    ]


keys = st.sampled_from(["", " ", "pet", " pet", "{x}"]) | st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
)
lines_of_any_json = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "name", "images", "facts", "questions", "split", "age"), values)
)


@settings(deadline=None)
@given(st.lists(lines_of_any_json.map(json.dumps) | values.map(json.dumps) | st.text(max_size=9), max_size=3))
def test_whatever_the_lines_hold_is_reported_as_problems_and_never_crashes(lines):
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), lines)
        with pytest.raises(Problems, match=r"cannot be imported, nothing was written"):
            import_folder(Path(directory), Path(directory) / "benchmark")
        assert not (Path(directory) / "benchmark").exists()


def test_a_folder_without_people_file_is_refused(folder):
    with pytest.raises(UserError, match=r"people.jsonl does not exist; give a folder that holds people.jsonl"):
        import_folder(folder, folder.parent / "benchmark")


def test_a_failed_import_leaves_an_earlier_benchmark_as_it_was(folder):
    lines = people(folder, 4)
    out = folder.parent / "benchmark"
    import_folder(write(folder, lines), out)
    (folder / "p0-0.png").unlink()
    with pytest.raises(Problems, match=r"p0-0\.png does not exist"):
        import_folder(folder, out)
    assert len(load(out).entities) == 4
