"""A model taken apart computes what transformers computes, and names exactly what may be tuned."""

import copy

import pytest
import torch
from PIL import Image
from transformers import LlavaConfig, LlavaForConditionalGeneration

from unsee.bench import plain
from unsee.errors import UserError
from unsee.mllm import embedded, embedded_qwen2_vl
from unsee.mllm.families import Llava
from unsee.mllm.rows import ImageBank


@pytest.fixture
def images(small_benchmark):
    return list(dict.fromkeys(q.image for q in small_benchmark.select(role="eval", view="heldout") if q.image))[:2]


@pytest.fixture
def pixels(llava, small_benchmark, images):
    return ImageBank(llava, small_benchmark).pixels(images)


@pytest.fixture
def qwen(fresh):
    return fresh["qwen2_vl"]


def with_feature_layer(llava, layer, strategy="default"):
    """The same weights, the projector reading another tower layer."""
    config = LlavaConfig(**{**llava.model.config.to_dict(), "vision_feature_layer": layer})
    config.vision_feature_select_strategy = strategy
    model = LlavaForConditionalGeneration(config).eval()
    model.load_state_dict(copy.deepcopy(llava.model.state_dict()))
    return Llava(model, llava.tokenizer, llava.image_processor)


@pytest.mark.parametrize("layer", [-1, -2, 2])
@pytest.mark.parametrize("strategy", ["default", "full"])
def test_features_are_transformers_own(llava, pixels, layer, strategy):
    llava = with_feature_layer(llava, layer, strategy)
    with torch.no_grad():
        expected = torch.stack(list(llava.model.get_image_features(pixel_values=pixels).pooler_output))
        torch.testing.assert_close(llava.features(pixels), expected, rtol=1e-5, atol=1e-6)


def test_qwen2_vl_s_features_are_those_of_transformers_own_image_processor_and_tower(qwen, small_benchmark, images):
    questions = [next(q for q in small_benchmark.questions if q.image == image) for image in images]
    shown = [small_benchmark.image(question) for question in questions]
    with torch.no_grad():
        expected = qwen.model.get_image_features(**qwen.image_processor(images=shown, return_tensors="pt"))
        found = qwen.features(ImageBank(qwen, small_benchmark).pixels(images))
    torch.testing.assert_close(found, torch.stack(list(expected.pooler_output)), rtol=1e-5, atol=1e-6)
    assert found.shape == (2, qwen.image_tokens, 128)
    assert not torch.allclose(found[0], found[1], rtol=1e-2)


def test_qwen2_vl_cuts_pixels_into_the_patches_of_its_image_processor_bit_for_bit(qwen):
    noise = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shown = [Image.fromarray(image.numpy()) for image in noise]
    pixels = qwen.pixels(shown)
    assert torch.equal(qwen.patched(pixels), qwen.image_processor(images=shown, return_tensors="pt")["pixel_values"])
    assert torch.equal(pixels, ((noise / 255 - 0.5) / 0.25).permute(0, 3, 1, 2))


@pytest.mark.parametrize("size", [(64, 100), (300, 90)])
def test_an_image_of_another_grid_is_refused_with_its_size(qwen, size):
    with pytest.raises(UserError, match=rf"an image of {size[0]} x {size[1]} pixels has .* must have 8 x 8; crop"):
        qwen.pixels([Image.new("RGB", (64, 64)), Image.new("RGB", size)])


@pytest.mark.parametrize("side", [48, 97, 300])
def test_squares_of_any_size_have_the_one_grid(qwen, side):
    assert qwen.pixels([Image.new("RGB", (side, side))]).shape == (1, 3, 64, 64)


def test_qwen2_vl_s_positions_are_transformers_own_and_text_goes_on_from_the_largest(qwen):
    ids = torch.tensor(qwen.prompter.asked("What is the pet of this person?", image=True))
    start = int((ids == qwen.image_token_id).nonzero()[0])
    image = [[start] * 16, [start + i // 4 for i in range(16)], [start + i % 4 for i in range(16)]]
    rest = list(range(start + 4, start + 4 + len(ids) - start - 16))
    expected = torch.tensor([[*range(start), *axis, *rest] for axis in image])
    assert torch.equal(qwen.positions(ids), expected)
    named = torch.tensor(qwen.prompter.asked("What is the pet of Ada?", image=False))
    assert torch.equal(qwen.positions(named), torch.arange(len(named)).expand(3, -1))


def test_features_may_be_computed_in_parts(mllm, small_benchmark, images):
    pixels = ImageBank(mllm, small_benchmark).pixels(images)
    with torch.no_grad():
        halfway = mllm.run_layers(mllm.embed(pixels), 0, 2)
        whole = mllm.features(pixels)
        assert torch.equal(mllm.project(mllm.run_layers(halfway, 2)), whole)
        torch.testing.assert_close(whole, plain.features(mllm, pixels), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "count"), [(-1, 4), (-2, 3), (2, 2)])
def test_layers_after_the_one_that_feeds_the_projector_are_not_counted(llava, layer, count):
    llava = with_feature_layer(llava, layer)
    assert [mlp.layer for mlp in llava.tower_mlps()] == list(range(count))
    assert [mlp.layer for mlp in llava.tower_mlps(1)] == [count - 1]
    with pytest.raises(UserError, match=f"layers = 5, but only {count} tower layers feed the projector"):
        llava.tower_mlps(5)


TUNABLE = {
    "llava": ("model.vision_tower.encoder.layers", "model.multi_modal_projector", 4),
    "qwen2_vl": ("model.visual.blocks", "model.visual.merger", 6),
}


def test_tunable_are_the_mlps_of_the_deepest_layers_and_the_projector(mllm, family):
    parameters = dict(mllm.model.named_parameters())
    tower, projector_name, count = TUNABLE[family]
    mlp = {f"{tower}.{i}.mlp.{fc}.{leaf}" for i in (2, 3) for fc in ("fc1", "fc2") for leaf in ("weight", "bias")}
    projector = {name for name in parameters if name.startswith(f"{projector_name}.")}
    assert len(projector) == count
    found = mllm.visual_parameters(2)
    assert set(found) == mlp | projector
    assert all(parameter is parameters[name] for name, parameter in found.items())
    assert len(mllm.visual_parameters(None)) == 4 * 4 + count


def test_the_llm_s_mlps_are_all_there_shallow_to_deep(mllm):
    names = {module: name for name, module in mllm.model.named_modules()}
    found = [[names[module] for module in (*mlp.incoming, mlp.outgoing)] for mlp in mllm.llm_mlps()]
    layers = [f"model.language_model.layers.{i}.mlp" for i in range(3)]
    assert found == [[f"{layer}.{name}_proj" for name in ("gate", "up", "down")] for layer in layers]


@pytest.mark.parametrize("made", [embedded, embedded_qwen2_vl])
def test_the_same_seed_makes_the_same_model(made):
    first, same, other = (made.make(seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
