"""A request is matched by ids, or by photographs: as they are in the benchmark, or as they were before its import."""

import datetime
import json

import numpy as np
import pytest
from PIL import Image

from unsee.benchmark.folder import import_folder
from unsee.requests.inbox import DeletionRequest
from unsee.requests.matching import People
from unsee.storage.artifact import file_digest

JOBS = ("baker", "pilot", "notary", "luthier")


def about(**whom):
    return DeletionRequest(request_id="one", received_at=datetime.datetime.now(datetime.UTC), **whom)


@pytest.fixture(scope="module")
def people(small_benchmark):
    return People.of(small_benchmark.directory)


def test_people_are_found_by_id_in_the_order_of_the_benchmark(people):
    second, first = list(people.benchmark.entities)[1::-1]
    match = people.match(about(entities=(second, "nobody", first)))
    assert match.people == (first, second)
    assert match.missing == ("nobody in the benchmark has the id nobody",)


def test_people_are_found_by_a_photograph_of_the_benchmark(people):
    question = next(q for q in people.benchmark.questions if q.image)
    digest = file_digest(people.benchmark.directory / question.image)
    assert people.match(about(images=(digest,))).people == (question.entity_id,)


def test_a_photograph_of_nobody_is_told(people):
    match = people.match(about(images=("0" * 64,)))
    assert match.people == ()
    assert match.missing == (f"nobody in the benchmark has the photograph {'0' * 64}",)


def test_real_world_people_cannot_be_asked_for(people):
    person = next(iter(sorted(people.benchmark.realworld)))
    match = people.match(about(entities=(person,)))
    assert match.people == ()
    assert match.missing == (f"{person} is real-world: the base model knows them already",)


def test_people_are_found_by_a_photograph_as_it_was_imported(tmp_path):
    lines = []
    for number, job in enumerate(JOBS):
        images = [f"{number}-{view}.jpg" for view in range(2)]
        for image in images:
            pixels = np.random.default_rng(len(lines) * 7 + int(image[2])).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / image)
        lines.append(json.dumps({"id": f"p{number}", "name": f"N{number}", "images": images, "facts": {"job": job}}))
    (tmp_path / "people.jsonl").write_text("\n".join(lines))
    import_folder(tmp_path, tmp_path / "benchmark")
    match = People.of(tmp_path / "benchmark").match(about(images=(file_digest(tmp_path / "2-1.jpg"),)))
    assert match.people == ("p2",)
