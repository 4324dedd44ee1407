"""Eq. 9-10 against one stock forward and one backward per sample, in float64."""

import pytest
import torch
from float64_pixels import see_in_float64

from unsee.bench import plain
from unsee.mllm.families import only_tunable
from unsee.mllm.rows import ImageBank, Portraits
from unsee.sections import ThresholdSettings
from unsee.statistics.fisher import diagonal_fisher
from unsee.steps.collect_statistics import visual_layers
from unsee.unlearning.saliency import saliency_mask


@pytest.fixture
def portraits(mllm64, small_benchmark):
    """Three portraits with 2, 3 and 4 questions."""
    mllm = see_in_float64(mllm64)
    people = list(small_benchmark.entities)[:1]
    found = Portraits(mllm, ImageBank(mllm, small_benchmark), small_benchmark, people)
    found.rows = {image: rows[: 2 + i] for i, (image, rows) in enumerate(list(found.rows.items())[:3])}
    return found


def measure(portraits, unit, batches):
    mllm = portraits.mllm
    only_tunable(mllm.model, mllm.visual_parameters(None))

    def forward(images):
        outputs = portraits.forward(images)
        return outputs.losses, outputs.weights

    losses = [lambda chunk=chunk: forward(chunk) for chunk in batches]
    return diagonal_fisher(visual_layers(mllm), losses, unit)


def plain_fisher(portraits, unit):
    """mean over samples of (gradient of the sample's loss)^2."""
    parameters = portraits.mllm.visual_parameters(None)
    squares, samples = {name: torch.zeros_like(p) for name, p in parameters.items()}, 0
    for image, rows in portraits.rows.items():
        pixels = portraits.bank.pixels([image])[0]
        for sample in [rows] if unit == "image" else [[row] for row in rows]:
            loss = plain.question_losses(portraits.mllm, sample, pixels).mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for name, gradient in zip(parameters, gradients, strict=True):
                squares[name] += gradient.square()
            samples += 1
    return {name: total / samples for name, total in squares.items()}


@pytest.mark.parametrize("unit", ["image", "question"])
def test_the_fisher_information_is_the_mean_of_squared_per_sample_gradients(portraits, unit):
    images = portraits.keys
    found = measure(portraits, unit, [images[:2], images[2:]])
    expected = plain_fisher(portraits, unit)
    assert found.keys() == expected.keys() == portraits.mllm.visual_parameters(None).keys()
    for name, fisher in found.items():
        assert (fisher - expected[name]).norm() / expected[name].norm() <= 1e-8, name


def test_how_images_are_batched_does_not_matter(portraits):
    images = portraits.keys
    one, three = measure(portraits, "question", [[i] for i in images]), measure(portraits, "question", [images])
    for name, fisher in one.items():
        torch.testing.assert_close(fisher, three[name], rtol=1e-9, atol=0)


def test_a_half_precision_model_is_measured_in_float32(mllm, small_benchmark):
    person = next(iter(small_benchmark.entities))
    portraits = Portraits(mllm, ImageBank(mllm, small_benchmark), small_benchmark, [person])
    mllm.model.to(torch.bfloat16)
    images = portraits.keys[:1]
    only_tunable(mllm.model, mllm.visual_parameters(None))

    def forward():
        outputs = portraits.forward(images)
        return outputs.losses, outputs.weights

    fisher = diagonal_fisher(visual_layers(mllm), [forward], "image")
    assert {tensor.dtype for tensor in fisher.values()} == {torch.float32}


def test_questions_by_name_have_no_gradient_in_tower_and_projector(mllm, small_benchmark):
    questions = small_benchmark.select(role="train", modality="qa")[:5]
    row = [mllm.prompter.trained(q.prompt, q.answer, image=False) for q in questions]
    visual = mllm.visual_parameters(None)
    loss = plain.question_losses(mllm, row, None).mean()
    assert torch.autograd.grad(loss, list(visual.values()), allow_unused=True) == (None,) * len(visual)


def test_sets_with_zero_gradient_add_exactly_nothing_to_the_mask():
    generator = torch.Generator().manual_seed(0)
    forget, retain = ({"w": torch.rand(64, 9, generator=generator)} for _ in range(2))
    zero = {"w": torch.zeros(64, 9)}
    for threshold in (ThresholdSettings(value=1.0), ThresholdSettings(fraction=0.3)):
        with_zeros = saliency_mask(forget, [zero, retain, zero], threshold)
        without = saliency_mask(forget, [retain], threshold)
        assert with_zeros.threshold == without.threshold
        assert torch.equal(with_zeros.masks["w"].unpack(), without.masks["w"].unpack())
