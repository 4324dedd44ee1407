"""Eq. 3-5 against the formula on random tensors, and the bound on forgetting."""

import pytest
import torch

from unsee.mllm.rows import Outputs, mean_loss
from unsee.unlearning.vkd import Vkd, distillation_loss

WEIGHTS = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
TOKENS = torch.tensor([[2, 1, 0], [1, 3, 4]])


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(2, 3, generator=generator, dtype=torch.float64) * WEIGHTS + 0.1 * WEIGHTS
    features = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    return Outputs(("a", "b"), features.requires_grad_(), losses.requires_grad_(), TOKENS, WEIGHTS.double())


@pytest.fixture
def teacher():
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(4, 5, generator=generator, dtype=torch.float64) for name in "ab"}


def plain_mean(losses):
    """Mean over questions, then images; the first image has two questions, the second three."""
    return (losses[0, :2].mean() + losses[1].mean()) / 2


def test_losses_are_averaged_over_questions_then_images(outputs):
    torch.testing.assert_close(mean_loss(outputs), plain_mean(outputs.losses))


def test_eq_4_is_the_squared_distance_relative_to_the_teacher_s_norm_per_image(outputs, teacher):
    stacked = torch.stack([teacher["a"], teacher["b"]])
    expected = sum((outputs.features[i] - stacked[i]).pow(2).sum() / stacked[i].pow(2).sum() for i in range(2)) / 2
    torch.testing.assert_close(distillation_loss(outputs.features, stacked), expected)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_distillation_does_not_depend_on_the_scale_of_features(outputs, teacher, scale):
    stacked = torch.stack([teacher["a"], teacher["b"]])
    torch.testing.assert_close(
        distillation_loss(outputs.features * scale, stacked * scale), distillation_loss(outputs.features, stacked)
    )


def test_features_equal_to_the_teacher_s_cost_nothing(teacher):
    stacked = torch.stack([teacher["a"], teacher["b"]])
    assert distillation_loss(stacked, stacked) == 0


def test_eq_3_adds_distillation_to_the_retain_loss(outputs, teacher):
    found = Vkd(1.25, 0.3, None, teacher).preserve(outputs)
    vkd = distillation_loss(outputs.features, torch.stack([teacher["a"], teacher["b"]]))
    torch.testing.assert_close(found.total, plain_mean(outputs.losses) + 0.3 * vkd)
    assert found.parts.keys() == {"retain_loss", "vkd_loss"}
    torch.testing.assert_close(found.parts["retain_loss"], plain_mean(outputs.losses))
    torch.testing.assert_close(found.parts["vkd_loss"], vkd)


def test_the_teacher_of_each_image_is_its_own(outputs, teacher):
    swapped = Outputs(("b", "a"), outputs.features, outputs.losses, outputs.answer_tokens, outputs.weights)
    method = Vkd(1.0, 1.0, None, teacher)
    expected = distillation_loss(outputs.features, torch.stack([teacher["b"], teacher["a"]]))
    torch.testing.assert_close(method.preserve(swapped).parts["vkd_loss"], expected)
    assert not torch.isclose(method.preserve(swapped).total, method.preserve(outputs).total)


def test_eq_5_ascends_the_forget_loss_by_alpha_when_it_is_not_bounded(outputs, teacher):
    found = Vkd(1.25, 0.3, None, teacher).forget(outputs)
    (gradient,) = torch.autograd.grad(found.total, outputs.losses)
    torch.testing.assert_close(found.total, -1.25 * plain_mean(outputs.losses))
    expected = torch.tensor([[1 / 4, 1 / 4, 0.0], [1 / 6] * 3], dtype=torch.float64)
    torch.testing.assert_close(gradient, -1.25 * expected)


def test_questions_past_the_bound_have_no_forget_gradient_and_the_others_all_of_it(outputs, teacher):
    bound = float(outputs.answer_losses[1, 1].detach())
    past = (outputs.answer_losses >= bound) & (WEIGHTS > 0)
    assert 0 < int(past.sum()) < int(WEIGHTS.sum())
    bounded, plain = Vkd(1.25, 0.3, bound, teacher).forget(outputs), Vkd(1.25, 0.3, None, teacher).forget(outputs)
    (gradient,) = torch.autograd.grad(bounded.total, outputs.losses)
    (unbounded,) = torch.autograd.grad(plain.total, outputs.losses)
    assert torch.equal(gradient[past], torch.zeros(int(past.sum()), dtype=torch.float64))
    assert torch.equal(gradient[~past], unbounded[~past])
    assert torch.equal(bounded.parts["forget_loss"], plain.parts["forget_loss"])


def test_the_bound_is_on_the_whole_answer_not_on_its_mean_token(outputs):
    assert torch.equal(outputs.answer_losses, outputs.losses * TOKENS)


def test_forgetting_touches_no_features_and_no_padding(outputs, teacher):
    found = Vkd(1.0, 1.0, None, teacher).forget(outputs)
    losses, features = torch.autograd.grad(found.total, [outputs.losses, outputs.features], allow_unused=True)
    assert features is None
    assert losses[0, 2] == 0
