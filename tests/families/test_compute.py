"""Every family computes in bfloat16, with recomputed activations, and on any device, what it computes without."""

from dataclasses import replace

import pytest
import torch

from unsee.compute import PLAIN
from unsee.mllm.families import only_tunable
from unsee.mllm.packing import option_scores, pack_options
from unsee.mllm.rows import ImageBank, Portraits, mean_loss


def with_compute(mllm, **changes):
    """The same model, computing otherwise."""
    dtype = replace(PLAIN, **changes).dtype
    return type(mllm)(mllm.model.to(dtype), mllm.tokenizer, mllm.image_processor, replace(PLAIN, **changes))


def step(mllm, benchmark, tuned=None):
    """The loss on some portraits of one frame, and its gradients: the visual part's, or those of `tuned`."""
    tuned = tuned or mllm.visual_parameters(None)
    only_tunable(mllm.model, tuned)
    portraits = Portraits(mllm, ImageBank(mllm, benchmark), benchmark, benchmark.entities)
    loss = mean_loss(portraits.forward(portraits.chunks(portraits.keys, 2)[0]))
    return loss, dict(zip(tuned, torch.autograd.grad(loss, list(tuned.values())), strict=True))


def test_recomputed_activations_give_the_same_gradients_bit_for_bit(mllm, two_shapes):
    loss, expected = step(mllm, two_shapes)
    again, found = step(with_compute(mllm, checkpointing=True), two_shapes)
    assert torch.equal(again, loss)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert all(gradient.any() for gradient in expected.values())


def test_recomputing_is_asked_of_every_layer_of_tower_and_llm(mllm, two_shapes):
    def kept(checkpointing):
        found = 0

        def pack(tensor):
            nonlocal found
            found += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step(with_compute(mllm, checkpointing=checkpointing), two_shapes)
        return found

    assert kept(True) < 0.75 * kept(False)


def test_bfloat16_gives_nearly_the_loss_and_the_gradients_of_float32(mllm, two_shapes):
    loss, expected = step(mllm, two_shapes)
    lower, found = step(with_compute(mllm, precision="bfloat16"), two_shapes)
    torch.testing.assert_close(lower.float(), loss, rtol=0.03, atol=0)
    joined = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in (expected, found)]
    assert joined[1].dtype == torch.float32
    assert torch.cosine_similarity(*joined, dim=0) > 0.98


def test_what_trains_in_bfloat16_is_float32_and_the_rest_is_not(mllm):
    low = with_compute(mllm, precision="bfloat16")
    tuned = low.visual_parameters(None)
    only_tunable(low.model, tuned)
    dtypes = {name: parameter.dtype for name, parameter in low.model.named_parameters()}
    assert all(dtype == (torch.float32 if name in tuned else torch.bfloat16) for name, dtype in dtypes.items())


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "gemma3"])
def test_the_whole_model_trains_in_bfloat16_too(mllm, two_shapes):
    low = with_compute(mllm, precision="bfloat16")
    parameters = {n: p for n, p in low.model.named_parameters() if "language_model" in n}
    _, gradients = step(low, two_shapes, parameters)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


def test_nothing_is_made_on_another_device_than_the_model_s(mllm, two_shapes):
    """The model is on a device without contents; an operation on tensors of two devices would fail."""
    bank = ImageBank(mllm, two_shapes)
    low = with_compute(mllm, checkpointing=True)
    low.model.to("meta")
    portraits = Portraits(low, bank, two_shapes, two_shapes.entities)
    images = portraits.chunks(portraits.keys, 2)[0]
    outputs = portraits.forward(images)
    loss = mean_loss(outputs)
    loss.backward()
    assert {loss.device.type, outputs.weights.device.type, outputs.answer_losses.device.type} == {"meta"}
    assert {p.grad.device.type for p in low.visual_parameters(None).values()} == {"meta"}
    at = low.at(bank.frame(images[0]))
    asked = [q for q in two_shapes.questions if q.image == images[0] and q.options][:2]
    packed = pack_options([[at.prompter.scored(q.prompt, q.options, image=True) for q in asked]], low.pad)
    scores = option_scores(at.head, at.hidden(packed, at.features(bank.pixels(images[:1]))), packed)
    assert scores.device.type == "meta"
