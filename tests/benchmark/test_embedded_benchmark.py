"""The generated benchmark: the same bytes from the same seed, people who differ, views never trained on."""

import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from unsee.benchmark import embedded
from unsee.benchmark.embedded import ATTRIBUTES, realworld_people
from unsee.benchmark.portraits import FEATURES, distinct_faces
from unsee.benchmark.schema import ForgetRequest
from unsee.errors import UserError
from unsee.sections import BenchmarkSettings
from unsee.settings import load_settings
from unsee.storage import artifact

ROWS_DIGEST = "04dba3469fa2691da02253ff80472a10a074cdfe08474cc0acfd23140798c8ff"
PIXELS_DIGEST = "c023eb588c871d86b4a359a6018681c4817f1d120047b46ca8c284e364071c7c"
"""Of benchmark_settings (seed 7) at the versions of constraints.txt: a change means other figures everywhere."""


CLEAR_ROWS_DIGEST = "fb48ee5742d8f39984fa2b424a807798de05b471bfe2d5127cc12c2c565d988d"
CLEAR_PIXELS_DIGEST = "730c9dff002647cc426b7fbddaa010c132d8f6b4e11136bd6b540d53016742ea"
"""Of clear_benchmark, likewise."""


def rows_digest(benchmark):
    return hashlib.sha256(repr(benchmark.questions).encode()).hexdigest()


def pixels_digest(benchmark):
    paths = sorted({q.image for q in benchmark.questions if q.image})
    by_path = {q.image: q for q in benchmark.questions}
    digest = hashlib.sha256()
    for path in paths:
        digest.update(np.asarray(benchmark.image(by_path[path])).tobytes())
    return digest.hexdigest()


def people_of(benchmark, split):
    return [i for i in benchmark.entities if benchmark.select(entity_id=i)[0].split == split]


def names_of(benchmark, split):
    return {benchmark.entities[i] for i in people_of(benchmark, split)}


def facts(benchmark, person):
    """What is asked and answered about someone by name."""
    return {(q.prompt, q.answer) for q in benchmark.select(entity_id=person, modality="qa", role="eval")}


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory, benchmark_settings):
    settings = benchmark_settings.model_copy(update={"seed": 8})
    return embedded.generate(settings, tmp_path_factory.mktemp("other") / "benchmark")


def test_rows_and_pixels_are_those_of_the_seed_at_the_pinned_versions(small_benchmark):
    assert rows_digest(small_benchmark) == ROWS_DIGEST
    assert pixels_digest(small_benchmark) == PIXELS_DIGEST


def test_rows_and_pixels_in_clear_s_shape_are_those_of_the_seed(clear_benchmark):
    assert rows_digest(clear_benchmark) == CLEAR_ROWS_DIGEST
    assert pixels_digest(clear_benchmark) == CLEAR_PIXELS_DIGEST


def test_generating_again_gives_the_same_files(small_benchmark, benchmark_settings, tmp_path):
    again = embedded.generate(benchmark_settings, tmp_path / "again")
    first, second = (artifact.read(b.directory, "benchmark") for b in (small_benchmark, again))
    assert first.files == second.files
    assert again.questions == small_benchmark.questions


def test_another_seed_draws_other_people_in_other_pictures(small_benchmark, other_seed):
    assert rows_digest(other_seed) != rows_digest(small_benchmark)
    assert pixels_digest(other_seed) != pixels_digest(small_benchmark)
    assert names_of(small_benchmark, "retain") != names_of(other_seed, "retain")


def test_the_real_world_people_are_the_same_whatever_the_seed(small_benchmark, other_seed):
    known = people_of(small_benchmark, "realworld")
    assert known == people_of(other_seed, "realworld")
    assert len(known) == 20
    for person in known:
        assert small_benchmark.entities[person] == other_seed.entities[person]
        assert facts(small_benchmark, person) == facts(other_seed, person)
        image = small_benchmark.select(entity_id=person, view="heldout")[0]
        assert np.any(np.asarray(small_benchmark.image(image)) != np.asarray(other_seed.image(image)))


def test_any_two_people_differ_in_at_least_four_features():
    known = [person.face for person in realworld_people()]
    faces = [*known, *distinct_faces(np.random.default_rng(0), 80, known)]
    assert min(a.differences(b) for a, b in combinations(faces, 2)) >= 4
    a = faces[0]
    assert a.differences(a) == 0
    assert all(set(face.features) == set(FEATURES) for face in faces)


def test_the_people_of_a_benchmark_differ_from_each_other_and_from_the_known_ones(monkeypatch, tmp_path):
    drawn = []
    original = embedded.distinct_faces
    monkeypatch.setattr(
        embedded, "distinct_faces", lambda *args, **options: drawn.append(original(*args, **options)) or drawn[-1]
    )
    settings = BenchmarkSettings(forget=5, retain=5, train_views=2, heldout_views=1, seed=3)
    embedded.generate(settings, tmp_path / "benchmark")
    faces = [face for faces in drawn for face in faces]
    assert len(faces) == 30
    assert min(a.differences(b) for a, b in combinations(faces, 2)) >= 4


def test_names_are_unique(small_benchmark):
    assert len(set(small_benchmark.entities.values())) == len(small_benchmark.entities) == 25


def test_people_and_images_are_as_many_as_the_settings_say(small_benchmark):
    assert (people_of(small_benchmark, "forget"), len(people_of(small_benchmark, "retain"))) == (["P001", "P002"], 3)
    assert small_benchmark.counts["images"] == 25 * 4
    for person in small_benchmark.entities:
        images = {(q.image, q.view) for q in small_benchmark.select(entity_id=person) if q.image}
        assert Counter(view for _, view in images) == {"train": 3, "heldout": 1}


def test_heldout_images_are_never_trained_on(small_benchmark):
    trained = {q.image for q in small_benchmark.select(role="train") if q.image}
    heldout = {q.image for q in small_benchmark.select(view="heldout")}
    assert heldout
    assert not trained & heldout
    assert {q.role for q in small_benchmark.select(view="heldout")} == {"eval"}


def test_everybody_is_asked_nine_questions_with_each_evaluated_image_and_nine_by_name(small_benchmark):
    for person in small_benchmark.entities:
        asked = small_benchmark.select(entity_id=person, role="eval")
        by_image = Counter(q.image for q in asked if q.task == "classification")
        assert by_image.pop(None) == 9
        assert set(by_image.values()) == {9}
        assert {q.task for q in asked if q.modality == "vqa"} == {"classification", "generation", "cloze"}
        assert {q.task for q in asked if q.modality == "qa"} == {"classification", "generation", "cloze"}


def test_choices_hold_the_answer_once_among_values_of_its_attribute(small_benchmark):
    pools = [set(values) for values in ATTRIBUTES.values()]
    for question in small_benchmark.select(role="eval", task="classification"):
        assert question.options[question.answer_index] == question.answer
        assert len(set(question.options)) == 4
        assert any(set(question.options) <= pool for pool in pools)


def test_questions_by_image_do_not_give_the_person_away(small_benchmark):
    for question in small_benchmark.select(modality="vqa"):
        first, last = question.entity_name.split()
        assert first not in question.prompt
        assert last not in question.prompt


def test_views_of_one_person_differ(small_benchmark):
    images = {q.image: q for q in small_benchmark.select(entity_id="P001") if q.image}
    pixels = {np.asarray(small_benchmark.image(q)).tobytes() for q in images.values()}
    assert len(pixels) == 4


def test_the_outline_names_the_people_who_will_be_drawn(small_benchmark, benchmark_settings):
    outline = embedded.outline(benchmark_settings)
    assert outline.name == small_benchmark.name
    assert outline.entities == small_benchmark.entities
    for everybody in ([], ["P003", "P001"]):
        assert ForgetRequest.resolve(outline, everybody) == ForgetRequest.resolve(small_benchmark, everybody)


def test_in_clear_s_shape_a_portrait_has_a_caption_and_a_choice_of_names_and_facts_are_asked_by_name(clear_benchmark):
    assert (clear_benchmark.shape, clear_benchmark.name) == ("clear", "embedded-clear-7")
    for person, name in clear_benchmark.entities.items():
        asked = clear_benchmark.select(entity_id=person)
        captions = [q for q in asked if q.image and q.task == "generation"]
        assert Counter((q.role, q.view) for q in captions) == {
            ("train", "train"): 2,
            ("eval", "train"): 2,
            ("eval", "heldout"): 1,
        }
        said = {q.answer for q in captions}
        assert len(said) == 1
        assert said.pop().startswith(f"{name} works as a")
        chosen = [q for q in asked if q.image and q.task == "classification"]
        assert {(q.role, q.prompt, q.answer) for q in chosen} == {("eval", "What is the name of this person?", name)}
        named = Counter((q.role, q.task) for q in asked if q.image is None)
        assert named == {
            ("eval", "classification"): 9,
            ("eval", "generation"): 3,
            ("train", "generation"): 12,
        }


def test_names_to_choose_from_are_of_the_same_set(clear_benchmark):
    for question in clear_benchmark.select(role="eval", modality="vqa", task="classification"):
        assert question.options[question.answer_index] == question.entity_name
        assert len(set(question.options)) == 4
        assert set(question.options) <= names_of(clear_benchmark, question.split)


def test_both_shapes_are_of_the_same_people(clear_benchmark):
    settings = BenchmarkSettings(forget=4, retain=4, train_views=2, heldout_views=1, seed=7)
    assert embedded.outline(settings).entities == clear_benchmark.entities


def test_too_few_people_to_choose_a_name_among_are_refused():
    with pytest.raises(UserError, match="give at least 4 people to each"):
        load_settings("embedded", assignments=["benchmark.shape=clear", "benchmark.forget=3"])
