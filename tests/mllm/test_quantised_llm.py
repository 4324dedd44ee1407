"""A quantised linear layer, and a trained model with an LLM of them."""

import pytest
import torch

from unsee.compute import Compute
from unsee.mllm import checkpoint
from unsee.mllm.families import only_tunable
from unsee.mllm.quantised import QuantisedLinear, quantised
from unsee.mllm.rows import ImageBank, Portraits, mean_loss
from unsee.settings import SHIPPED_BASE

BITS = pytest.mark.parametrize("bits", [8, 4])


@pytest.fixture
def make():
    """make(bits, columns, dtype): a linear layer, and the same quantised."""

    def make(bits, columns=192, dtype=torch.float32):
        torch.manual_seed(0)
        linear = torch.nn.Linear(columns, 40, dtype=dtype).requires_grad_(False)
        linear.weight[3] = 0
        packed = QuantisedLinear(linear, bits)
        packed.take(linear.weight)
        return linear, packed

    return make


@BITS
@pytest.mark.parametrize("columns", [192, 100])
def test_every_weight_is_the_nearest_multiple_of_its_scale(make, bits, columns):
    linear, packed = make(bits, columns)
    off = (packed.unpacked() - linear.weight).abs().unflatten(1, (packed.scales.shape[1], -1))
    assert (off <= 0.5001 * packed.scales).all()
    assert not packed.unpacked()[3].any()


@BITS
def test_a_layer_gives_what_its_unpacked_weights_give_and_the_gradient_of_its_input(make, bits):
    linear, packed = make(bits)
    linear.weight.copy_(packed.unpacked())
    x, y = (torch.randn(2, 5, 192, generator=torch.Generator().manual_seed(1), requires_grad=True) for _ in range(2))
    for layer, given in ((linear, x), (packed, y)):
        layer(given).square().sum().backward()
    torch.testing.assert_close(packed(y), linear(x))
    torch.testing.assert_close(y.grad, x.grad)


@BITS
def test_nothing_is_kept_for_the_backward_pass(make, bits):
    _, packed = make(bits)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        packed(torch.randn(5, 192, requires_grad=True))
    assert not kept


@pytest.mark.parametrize(("bits", "share"), [(8, 1 / 2), (4, 1 / 4)])
def test_weights_take_a_half_or_a_quarter_of_what_they_take_in_bfloat16(make, bits, share):
    linear, packed = make(bits, dtype=torch.bfloat16)
    assert sum(buffer.nbytes for buffer in packed.buffers()) == (share + 1 / 64) * linear.weight.nbytes
    assert [name for name, _ in packed.named_parameters()] == ["bias"]


@pytest.fixture(scope="module")
def step(small_benchmark):
    """step(bits): the shipped base's loss on some portraits, the gradients of all that VKD tunes, the LLM's bytes."""

    def step(bits):
        mllm = checkpoint.load(SHIPPED_BASE, compute=Compute(llm_bits=bits))
        tuned = mllm.visual_parameters(None)
        only_tunable(mllm.model, tuned)
        portraits = Portraits(mllm, ImageBank(mllm, small_benchmark), small_benchmark, [*small_benchmark.entities][:2])
        loss = mean_loss(portraits.forward(portraits.keys))
        gradients = torch.autograd.grad(loss, list(tuned.values()))
        assert all(gradient.any() for gradient in gradients)
        return loss, torch.cat([gradient.flatten() for gradient in gradients]), quantised(mllm.model)

    return step


@pytest.mark.parametrize(("bits", "of_loss", "of_gradient"), [(8, 0.005, 0.02), (4, 0.05, 0.25)])
def test_a_trained_model_s_loss_and_gradients_are_nearly_what_they_were(step, bits, of_loss, of_gradient):
    loss, gradient, none = step(None)
    near, found, packed = step(bits)
    assert (len(none), len(packed)) == (0, 3 * 7)
    torch.testing.assert_close(near, loss, rtol=of_loss, atol=0)
    assert (found - gradient).norm() < of_gradient * gradient.norm()


@BITS
def test_a_delta_that_changes_the_llm_applies_to_a_quantised_base(llava, tmp_path, bits):
    checkpoint.save_full(llava, tmp_path / "base")
    weight = llava.language_model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        weight.mul_(3)
    checkpoint.save_delta(llava, tmp_path / "base", tmp_path / "delta", method="", seed=0, config={})
    small = checkpoint.load(tmp_path / "delta", compute=Compute(llm_bits=bits))
    found = small.language_model.layers[1].mlp.up_proj.unpacked()
    assert (found - weight).norm() < 0.12 * weight.norm()
