"""Parts of a piece of unlearning work on the real small model (`make_work` and `make` in conftest.py)."""

import copy
import shutil
from collections import Counter
from dataclasses import replace

import torch

from unsee.benchmark import schema
from unsee.storage import artifact
from unsee.unlearning.method import settings_of

COMMON = {
    "layers": 2, "epochs": 1, "least_steps": 1, "versions": 1, "batch_forget_images": 2, "batch_retain_images": 2,
    "batch_people": 1, "micro_batch_images": 8, "learning_rate": 1e-3, "decay": 0.0,
    "mask_on": "forget_gradient", "clip": 0.5,
    "compute": {"threads": 1}, "seed": 0,
}  # fmt: skip
OWN = {"vkd": {"alpha": 1.25, "beta": 0.3, "mask": {"fraction": 0.5}, "bound": "none"}}


def copy_of(mllm):
    """The same model, safe to change."""
    return type(mllm)(copy.deepcopy(mllm.model).eval(), mllm.tokenizer, mllm.image_processor)


def activations_of(mllm):
    """The activation functions of the tower's MLPs, shallow to deep."""
    of = [[m for m in layer.mlp.children() if not isinstance(m, torch.nn.Linear)] for layer in mllm.tower_layers]
    return [activation for (activation,) in of]


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


def written(benchmark, questions, out):
    """A directory of its own with these of a benchmark's questions and their images."""
    with artifact.create(out, "benchmark", artifact.read(benchmark.directory, "benchmark").facts):
        schema.write_questions(out, questions)
        for image in {q.image for q in questions if q.image}:
            (out / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(benchmark.directory / image, out / image)
    return schema.load(out)


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
