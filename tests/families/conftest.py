"""Tiny models of every family, and a benchmark with portraits of two shapes."""

import pytest
import torch
from PIL import Image
from tiny_families import TINY
from unlearning_work import copy_of, few_questions

from unsee.benchmark import embedded as embedded_benchmark
from unsee.benchmark import schema
from unsee.mllm.rows import ImageBank
from unsee.sections import BenchmarkSettings
from unsee.storage import artifact


@pytest.fixture(scope="session")
def tiny():
    """A model of each family, made once."""
    return {name: make() for name, make in TINY.items()}


@pytest.fixture(params=TINY)
def name(request):
    return request.param


@pytest.fixture
def mllm(tiny, name):
    """Safe to change."""
    return copy_of(tiny[name])


@pytest.fixture
def mllm64(mllm, monkeypatch):
    """In float64, also where transformers rounds to float32 whatever the model's dtype."""
    to, softmax = torch.Tensor.to, torch.nn.functional.softmax

    def wide(value):
        return torch.float64 if value is torch.float32 else value

    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda t, *args, **more: to(t, *map(wide, args), **{k: wide(v) for k, v in more.items()})
    )
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim, dtype=wide(dtype)))
    mllm.model.double()
    return mllm


@pytest.fixture(scope="session")
def two_shapes(tmp_path_factory):
    """Two people to forget, two to retain and one of the real-world people; every second portrait is a wide crop."""
    drawn = BenchmarkSettings(forget=2, retain=2, train_views=2, heldout_views=1, seed=7)
    whole = embedded_benchmark.generate(drawn, tmp_path_factory.mktemp("drawn") / "whole")
    people = [*whole.entities][:5]
    images = sorted({q.image for q in whole.questions if q.image and q.entity_id in people})
    facts = {"name": "two-shapes", "source": "embedded", "shape": "mllmu"}
    with artifact.create(tmp_path_factory.mktemp("two") / "shapes", "benchmark", facts) as out:
        for number, image in enumerate(images):
            portrait = Image.open(whole.directory / image)
            (out / image).parent.mkdir(parents=True, exist_ok=True)
            portrait.crop((0, 17, 64, 47) if number % 2 else (0, 0, 64, 64)).save(out / image)
        asked = [q for q in few_questions(whole, 3).questions if q.entity_id in people]
        schema.write_questions(out, [q for n, q in enumerate(asked) if q.role == "train" or n % 3 == 0])
    return schema.load(out)


@pytest.fixture(scope="session")
def faces(two_shapes):
    """Paths of all portraits -> a question about each."""
    return {q.image: q for q in two_shapes.questions if q.image}


@pytest.fixture
def bank(mllm, two_shapes):
    return ImageBank(mllm, two_shapes)
