"""Eq. 3-5 against the formula on random tensors, and the bound on forgetting."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from unlearning_work import settings

from unsee.mllm.packing import image_losses
from unsee.mllm.rows import mean_loss
from unsee.unlearning.methods.vkd import VisualKnowledgeDistillation, distillation_loss

WEIGHTS = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
TOKENS = torch.tensor([[2, 1, 0], [1, 3, 4]])


@dataclass
class RandomOutputs:
    """What a forward gives, made of random tensors; the first image has two questions, the second three."""

    keys: tuple[str, ...]
    features: torch.Tensor
    losses: torch.Tensor

    @property
    def answer_losses(self):
        return self.losses * TOKENS

    def mean(self, questions):
        return image_losses(questions, WEIGHTS.double()).mean()


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(2, 3, generator=generator, dtype=torch.float64) * WEIGHTS + 0.1 * WEIGHTS
    features = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    return RandomOutputs(("a", "b"), features.requires_grad_(), losses.requires_grad_())


@pytest.fixture
def teacher():
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(4, 5, generator=generator, dtype=torch.float64) for name in "ab"}


@pytest.fixture
def terms(monkeypatch, teacher):
    """terms(alpha, beta, bound, odds): VKD's terms by name, its teacher's features given."""
    monkeypatch.setattr("unsee.unlearning.methods.vkd.reference_features", lambda rows, most: teacher)
    mllm = SimpleNamespace(image_tokens=16)
    work = SimpleNamespace(mllm=mllm, forget=object(), retain=object(), others={"retain": object()})

    def of(alpha, beta, bound="none", odds=None):
        method = VisualKnowledgeDistillation(settings("vkd", alpha=alpha, beta=beta, bound=bound, odds=odds), work)
        return {term.name: term for term in method.terms(work)}

    return of


def plain_mean(losses):
    """Mean over questions, then images."""
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


def test_eq_3_and_5_weigh_ascent_answers_and_distillation(outputs, teacher, terms):
    found = terms(1.25, 0.3)
    assert {name: (term.weight, term.forgets) for name, term in found.items()} == {
        "forget": (-1.25, True),
        "retain": (1.0, False),
        "vkd": (0.3, False),
    }
    torch.testing.assert_close(found["retain"].loss(outputs), plain_mean(outputs.losses))
    expected = distillation_loss(outputs.features, torch.stack([teacher["a"], teacher["b"]]))
    torch.testing.assert_close(found["vkd"].loss(outputs), expected)


def test_the_teacher_of_each_image_is_its_own(outputs, teacher, terms):
    swapped = RandomOutputs(("b", "a"), outputs.features, outputs.losses)
    expected = distillation_loss(outputs.features, torch.stack([teacher["b"], teacher["a"]]))
    found = terms(1.0, 1.0)["vkd"]
    torch.testing.assert_close(found.loss(swapped), expected)
    assert not torch.isclose(found.loss(swapped), found.loss(outputs))


def test_without_a_bound_every_question_is_ascended(outputs, terms):
    found = terms(1.25, 0.3)["forget"].loss(outputs)
    (gradient,) = torch.autograd.grad(found, outputs.losses)
    torch.testing.assert_close(found, plain_mean(outputs.losses))
    torch.testing.assert_close(gradient, torch.tensor([[1 / 4, 1 / 4, 0.0], [1 / 6] * 3], dtype=torch.float64))


def test_questions_past_the_bound_have_no_forget_gradient_and_the_others_all_of_it(outputs, terms):
    bound = float(outputs.answer_losses[1, 1].detach())
    past = (outputs.losses * TOKENS >= bound) & (WEIGHTS > 0)
    assert 0 < int(past.sum()) < int(WEIGHTS.sum())
    bounded, plain = terms(1.25, 0.3, bound)["forget"].loss(outputs), terms(1.25, 0.3)["forget"].loss(outputs)
    (gradient,) = torch.autograd.grad(bounded, outputs.losses)
    (unbounded,) = torch.autograd.grad(plain, outputs.losses)
    assert torch.equal(gradient[past], torch.zeros(int(past.sum()), dtype=torch.float64))
    assert torch.equal(gradient[~past], unbounded[~past])
    assert torch.equal(bounded, plain)


def test_ascent_along_the_log_odds_has_their_gradient_within_the_limit_and_the_loss_s_value(outputs, terms):
    plain, sped = terms(1.0, 1.0)["forget"].loss(outputs), terms(1.0, 1.0, odds=1e9)["forget"].loss(outputs)
    torch.testing.assert_close(sped, plain)
    (gradient,) = torch.autograd.grad(sped, outputs.losses)
    log_p = -outputs.losses * TOKENS
    negative_log_odds = torch.log1p(-log_p.exp()) - log_p
    shares = torch.where(WEIGHTS > 0, negative_log_odds / TOKENS.clamp(min=1), 0.0)
    (expected,) = torch.autograd.grad(plain_mean(shares), outputs.losses)
    torch.testing.assert_close(gradient[WEIGHTS > 0], expected[WEIGHTS > 0])
    (limited,) = torch.autograd.grad(terms(1.0, 1.0, odds=1.0)["forget"].loss(outputs), outputs.losses)
    (own,) = torch.autograd.grad(terms(1.0, 1.0)["forget"].loss(outputs), outputs.losses)
    assert torch.equal(limited, own)


def test_forgetting_touches_no_features_and_no_padding(outputs, terms):
    found = terms(1.0, 1.0)["forget"].loss(outputs)
    losses, features = torch.autograd.grad(found, [outputs.losses, outputs.features], allow_unused=True)
    assert features is None
    assert losses[0, 2] == 0
