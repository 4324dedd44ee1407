"""A piece of unlearning work on the real small model: one person to forget, one to retain, three portraits each."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from unsee.benchmark.schema import ForgetRequest
from unsee.mllm.rows import ImageBank
from unsee.settings import PruneSettings
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Work, settings_of
from unsee.unlearning.trainer import Unlearning

COMMON = {
    "layers": 2, "epochs": 1, "least_steps": 1, "versions": 1, "batch_forget_images": 2, "batch_retain_images": 2,
    "batch_people": 1, "micro_batch_images": 8, "learning_rate": 1e-3, "decay": 0.0,
    "mask_on": "forget_gradient", "clip": 0.5,
    "threads": 1, "seed": 0,
}  # fmt: skip
OWN = {"vkd": {"alpha": 1.25, "beta": 0.3, "mask": {"fraction": 0.5}, "bound": "none"}}


def settings(method="vkd", **changes):
    return settings_of({"method": method, **COMMON, **OWN.get(method, {}), **changes})


def few_questions(benchmark, most):
    """The benchmark with up to `most` training questions per portrait or person, one fewer for every second."""
    asked, numbers, kept = Counter(), {}, []
    for question in benchmark.questions:
        row = question.image or question.entity_id
        asked[row, question.role] += 1
        number = numbers.setdefault(row, len(numbers))
        if question.role == "eval" or asked[row, question.role] <= most - number % 2:
            kept.append(question)
    return replace(benchmark, questions=tuple(kept))


def random_fisher(llava, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = llava.visual_parameters(None)
    return {
        name: {n: torch.rand(p.shape, generator=generator) for n, p in tensors.items()}
        for name in ("forget_vqa", "retain_vqa")
    }


def pruned_neurons(layer):
    flags = torch.zeros(512, dtype=torch.bool)
    flags[[2, 300]] = True
    return {layer: flags}


@pytest.fixture
def request_(small_benchmark):
    first, second, *_ = small_benchmark.entities
    return ForgetRequest((first,), (second,), ())


@pytest.fixture
def make_work(small_benchmark, request_):
    """make_work(llava, method, **settings): up to three questions per row, two neurons pruned in one layer."""

    def make(llava, method="vkd", *, questions=3, pruned_layer=3, retrained=None, **changes):
        benchmark = few_questions(small_benchmark, questions)
        return Work(
            settings=settings(method, **changes),
            mllm=llava,
            bank=ImageBank(llava, benchmark),
            benchmark=benchmark,
            request=request_,
            pruned=pruned_neurons(pruned_layer),
            pruning=PruneSettings.model_validate({"threshold": {"fraction": 0.1}, "layers": 2}),
            fisher=random_fisher(llava),
            retrained=retrained,
        )

    return make


@pytest.fixture
def make(make_work):
    """make(llava, method, **settings): the same, put together for training."""

    def of(llava, method="vkd", *, checkpoints=None, **changes):
        return Unlearning.of(make_work(llava, method, **changes), checkpoints or Checkpoints(), NoTracker())

    return of
