"""A LLaVA taken apart computes what transformers computes, and names exactly what may be tuned."""

import copy

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from unsee.errors import UserError
from unsee.mllm import embedded
from unsee.mllm.families import Llava
from unsee.mllm.rows import ImageBank


@pytest.fixture
def pixels(llava, small_benchmark):
    images = [q.image for q in small_benchmark.select(role="eval", view="heldout")][:2]
    return ImageBank(llava, small_benchmark).pixels(images)


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


def test_features_may_be_computed_in_parts(llava, pixels):
    with torch.no_grad():
        halfway = llava.run_layers(llava.embed(pixels), 0, 2)
        assert torch.equal(llava.project(llava.run_layers(halfway, 2)), llava.features(pixels))


@pytest.mark.parametrize(("layer", "count"), [(-1, 4), (-2, 3), (2, 2)])
def test_layers_after_the_one_that_feeds_the_projector_are_not_counted(llava, layer, count):
    llava = with_feature_layer(llava, layer)
    assert [mlp.layer for mlp in llava.tower_mlps()] == list(range(count))
    assert [mlp.layer for mlp in llava.tower_mlps(1)] == [count - 1]
    with pytest.raises(UserError, match=f"layers = 5, but only {count} tower layers feed the projector"):
        llava.tower_mlps(5)


def test_tunable_are_the_mlps_of_the_deepest_layers_and_the_projector(llava):
    parameters = dict(llava.model.named_parameters())
    tower = "model.vision_tower.encoder.layers"
    mlp = {f"{tower}.{i}.mlp.{fc}.{leaf}" for i in (2, 3) for fc in ("fc1", "fc2") for leaf in ("weight", "bias")}
    projector = {name for name in parameters if name.startswith("model.multi_modal_projector.")}
    assert len(projector) == 4
    found = llava.visual_parameters(2)
    assert set(found) == mlp | projector
    assert all(parameter is parameters[name] for name, parameter in found.items())
    assert len(llava.visual_parameters(None)) == 4 * 4 + 4


def test_the_same_seed_makes_the_same_model():
    first, same, other = (embedded.make(seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
