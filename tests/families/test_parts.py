"""Every family: what is tuned, pruned and measured is the tower's MLPs and the projector, token by token."""

import pytest
import torch

from unsee.mllm.families import only_tunable
from unsee.mllm.packing import pack_training, question_losses
from unsee.mllm.rows import Portraits, alike
from unsee.pruning import pruned_entries, zero_neurons
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.fisher import diagonal_fisher
from unsee.steps.collect_statistics import visual_layers
from unsee.unlearning.methods.manu import activation_measures

FC = (("mlp.fc1",), "mlp.fc2")
GATED = (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
WHERE = {
    "llava": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 1),
    "qwen2_vl": ("model.visual.blocks", FC, ("model.visual.merger",), 2),
    "qwen2_5_vl": ("model.visual.blocks", GATED, ("model.visual.merger",), 2),
    "qwen3_vl": (
        "model.visual.blocks", (("mlp.linear_fc1",), "mlp.linear_fc2"),
        ("model.visual.merger", "model.visual.deepstack_merger_list"), 2,
    ),
    "gemma3": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 2),
    "gemma3_narrow": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 2),
    "paligemma": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 2),
    "paligemma2": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 2),
    "llava_next": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 1),
    "llava_onevision": ("model.vision_tower.encoder.layers", FC, ("model.multi_modal_projector",), 2),
    "internvl": ("model.vision_tower.encoder.layer", FC, ("model.multi_modal_projector",), 2),
    "idefics3": ("model.vision_model.encoder.layers", FC, ("model.connector",), 2),
    "smolvlm": ("model.vision_model.encoder.layers", FC, ("model.connector",), 2),
    "mistral3": (
        "model.vision_tower.transformer.layers",
        (("feed_forward.gate_proj", "feed_forward.up_proj"), "feed_forward.down_proj"),
        ("model.multi_modal_projector",), 2,
    ),
}  # fmt: skip
"""The tower's layers, an MLP's modules in one, the projector, and how many layers feed it."""


@pytest.fixture
def images(bank, faces):
    """Two portraits of one frame and one of another, where the family knows several."""
    groups = alike(faces, bank.frame)
    return [*groups[0][:2], groups[-1][-1]]


def test_tunable_are_the_tower_s_mlps_and_the_projector_and_nothing_else(mllm, name):
    layers, (incoming, outgoing), projector, count = WHERE[name]
    mlps = [f"{layers}.{index}.{module}." for index in range(count) for module in (*incoming, outgoing)]
    expected = {n for n, _ in mllm.model.named_parameters() if n.startswith((*mlps, *(f"{p}." for p in projector)))}
    found = mllm.visual_parameters(None)
    assert set(found) == expected
    deepest = [f"{layers}.{count - 1}.{module}." for module in (*incoming, outgoing)]
    kept = {n for n in expected if n.startswith((*deepest, *(f"{p}." for p in projector)))}
    assert set(mllm.visual_parameters(1)) == kept
    only_tunable(mllm.model, found)
    assert {n for n, p in mllm.model.named_parameters() if p.requires_grad} == expected


def test_pruned_neurons_are_gone_as_if_they_never_fired(mllm, bank, images):
    gone = torch.zeros(48, dtype=torch.bool)
    gone[[0, 7, 47]] = True
    mlp = mllm.tower_mlps()[-1]
    at, pixels = mllm.at(bank.frame(images[0])), bank.pixels(images[:2])
    with torch.no_grad():
        intact = at.features(pixels)
        hook = mlp.outgoing.register_forward_pre_hook(lambda _, inputs: (inputs[0].masked_fill(gone, 0),))
        expected = at.features(pixels)
        hook.remove()
        before = {n: t.clone() for n, t in mllm.model.state_dict().items()}
        zero_neurons(mllm, {mlp.layer: gone})
        torch.testing.assert_close(at.features(pixels), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(intact, expected, rtol=1e-3)
    entries = pruned_entries(mllm, {mlp.layer: gone})
    assert {n for n, t in mllm.model.state_dict().items() if not torch.equal(t, before[n])} == set(entries)
    for parameter, pruned in entries.items():
        tensor = mllm.model.state_dict()[parameter]
        assert torch.equal(tensor == 0, pruned.expand_as(tensor))


def test_importance_is_the_mean_over_images_of_the_mean_over_tokens(mllm, bank, images):
    found = mean_absolute_activation(mllm, bank.pixels, images, 2, bank.frame)
    expected = {mlp.layer: torch.zeros(48) for mlp in mllm.tower_mlps()}

    def add(layer):
        def hook(_module, inputs):
            expected[layer] += inputs[0].abs().flatten(0, -2).mean(dim=0) / len(images)

        return hook

    hooks = [mlp.outgoing.register_forward_pre_hook(add(mlp.layer)) for mlp in mllm.tower_mlps()]
    for image in images:
        at = mllm.at(bank.frame(image))
        with torch.no_grad():
            at.model.get_image_features(**at.image_inputs(bank.pixels([image])))
    for hook in hooks:
        hook.remove()
    for layer, importance in found.items():
        torch.testing.assert_close(importance, expected[layer], rtol=1e-4, atol=1e-6)


def test_fisher_information_is_the_mean_of_squared_gradients_of_one_image_each(mllm, bank, images, faces, two_shapes):
    people = {faces[image].entity_id for image in images}
    portraits = Portraits(mllm, bank, two_shapes, people)
    keys = alike(portraits.keys, bank.frame)[0][:2]

    def forward():
        outputs = portraits.forward(keys)
        return outputs.losses, outputs.weights

    only_tunable(mllm.model, mllm.visual_parameters(None))
    found = diagonal_fisher(visual_layers(mllm), [forward], "image")
    tuned = mllm.visual_parameters(None)
    squares = {name: torch.zeros_like(p) for name, p in tuned.items()}
    for key in keys:
        at = mllm.at(bank.frame(key))
        packed = pack_training([portraits.rows[key]], mllm.pad)
        losses = question_losses(mllm.head, at.hidden(packed, at.features(bank.pixels([key]))), packed)
        for name, gradient in zip(tuned, torch.autograd.grad(losses.mean(), list(tuned.values())), strict=True):
            squares[name] += gradient.square() / len(keys)
    assert set(found) == set(tuned)
    for name, expected in squares.items():
        assert expected.any(), name
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-4 * float(expected.max()), msg=name)


def test_a_change_is_made_to_pictures_and_not_to_tiles(mllm, bank, images, faces, two_shapes):
    """A mirrored portrait has the pixels of the portrait, mirrored as `on_pictures` does."""
    image = next(i for i in reversed(images) if two_shapes.image(faces[i]).height == 64)
    portrait = two_shapes.image(faces[image])
    at = mllm.at(bank.frame(image))
    mirrored = at.on_pictures(bank.pixels([image]), lambda picture: picture.flip(-1))
    torch.testing.assert_close(mirrored[0], at.pixels([portrait.transpose(0)])[0], rtol=0, atol=0.06)
    assert torch.equal(at.on_pictures(bank.pixels([image]), lambda picture: picture)[0], bank.pixels([image])[0])


def test_llm_neurons_are_measured_over_all_tokens_of_every_layer(mllm, bank, images, faces, two_shapes):
    """MANU's measures of a row with one question are those of transformers' own forward."""
    portraits = Portraits(mllm, bank, two_shapes, {faces[images[-1]].entity_id})
    key = portraits.keys[-1]
    (rendered, *_) = portraits.rows[key]
    portraits.rows = {key: [rendered]}
    mlps = mllm.llm_mlps()
    found = activation_measures(mlps, portraits)
    seen = {}
    hooks = [
        mlp.outgoing.register_forward_pre_hook(lambda _, inputs, at=mlp.layer: seen.update({at: inputs[0][0]}))
        for mlp in mlps
    ]
    at, ids = mllm.at(bank.frame(key)), torch.tensor([rendered.prompt + rendered.answers[0][:-1]])
    mllm.language_model.set_attn_implementation("eager")
    with torch.no_grad():
        at.model(**at.model_inputs(ids, bank.pixels([key]), torch.tensor([len(rendered.prompt)])), use_cache=False)
    for hook in hooks:
        hook.remove()
    for layer, z in seen.items():
        torch.testing.assert_close(found[layer][0], z.abs().mean(dim=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[layer][2], z.var(dim=0, unbiased=False), rtol=1e-3, atol=1e-5)
    assert set(seen) == {0, 1}
