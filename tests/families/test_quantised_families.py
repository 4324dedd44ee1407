"""Every family with its LLM in 8 or 4 bits: what it computes, what it takes, and what it leaves alone."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_compute import step

from unsee.compute import Compute
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.quantised import quantised
from unsee.mllm.stored import changed, copy_into

BITS = pytest.mark.parametrize("bits", [8, 4])
ERRORS = {8: 0.01, 4: 0.12}
"""How far a layer's weights may be from what they were, as a share of their norm."""


@pytest.fixture
def base(mllm, tmp_path):
    checkpoint.save_full(mllm, tmp_path)
    return tmp_path


def loaded(base, bits, **compute):
    return checkpoint.load_full(base, Compute(llm_bits=bits, **compute))


def joined(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


@BITS
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_llm_s_linear_layers_are_rounded_and_all_else_is_as_without(mllm, base, bits, precision):
    plain, small = (loaded(base, chosen, precision=precision).model for chosen in (None, bits))
    packed, own, expected = quantised(small), small.state_dict(), plain.state_dict()
    linear = {n for n, m in mllm.language_model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {n.removeprefix(f"{mllm.language_name}.").removesuffix(".weight") for n in packed} == linear
    assert own.keys() == expected.keys()
    for name, tensor in expected.items():
        if name in packed:
            assert (packed[name].unpacked() - tensor).norm() < ERRORS[bits] * tensor.norm()
        else:
            assert torch.equal(own[name], tensor) and own[name].dtype == tensor.dtype
    buffers = dict(small.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in plain.named_buffers())


@BITS
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_a_plain_model_with_the_rounded_weights(
    mllm, base, bits, checkpointing, two_shapes
):
    small = loaded(base, bits, checkpointing=checkpointing)
    copy_into(mllm.model, ((name, layer.unpacked()) for name, layer in quantised(small.model).items()))
    loss, expected = step(mllm, two_shapes)
    same, found = step(small, two_shapes)
    torch.testing.assert_close(same, loss, rtol=1e-5, atol=0)
    assert found.keys() == expected.keys()
    assert (joined(found) - joined(expected)).norm() < 1e-4 * joined(expected).norm()


def test_8_bits_give_nearly_the_loss_and_the_gradients_of_the_model_as_it_was(mllm, base, two_shapes):
    """Random weights in layers of 32 units are a hard case; tests/mllm/test_quantised_llm.py has a trained model."""
    loss, expected = step(mllm, two_shapes)
    near, found = step(loaded(base, 8), two_shapes)
    torch.testing.assert_close(near, loss, rtol=0.01, atol=0)
    assert (joined(found) - joined(expected)).norm() < 0.1 * joined(expected).norm()


@BITS
def test_a_quantised_llm_is_never_among_what_changed(mllm, base, bits):
    small = loaded(base, bits)
    assert not changed(small.model, base)
    name, parameter = next(iter(small.visual_parameters(None).items()))
    with torch.no_grad():
        parameter.add_(1)
    assert changed(small.model, base).keys() == {name}


def test_weights_that_a_folder_lacks_are_told(mllm, base):
    kept = load_file(base / "model.safetensors")
    gone = next(name for name in kept if "q_proj" in name and "vision" not in name)
    save_file({n: t for n, t in kept.items() if n != gone}, base / "model.safetensors")
    with pytest.raises(UserError, match=r"has no weights for .*q_proj.*; save it again"):
        loaded(base, 8)
