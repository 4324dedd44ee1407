"""Eq. 8 in the model: a pruned neuron is gone from weights, biases and columns, as if it never fired."""

import pytest
import torch

from unsee.mllm.rows import ImageBank
from unsee.pruning import pruned_entries, zero_neurons

PRUNED = {1: [0, 7, 511], 3: [3]}


@pytest.fixture
def llava(llava):
    """With biases that are not zero from the start."""
    for mlp in llava.tower_mlps():
        torch.nn.init.normal_(mlp.incoming[0].bias)
    return llava


@pytest.fixture
def pruned():
    flags = {layer: torch.zeros(512, dtype=torch.bool) for layer in PRUNED}
    for layer, neurons in PRUNED.items():
        flags[layer][neurons] = True
    return flags


def test_rows_biases_and_columns_of_pruned_neurons_become_zero_and_nothing_else_changes(llava, pruned):
    before = {name: tensor.clone() for name, tensor in llava.model.state_dict().items()}
    zero_neurons(llava, pruned)
    after = llava.model.state_dict()
    prefix = "model.vision_tower.encoder.layers"
    expected = dict(before)
    for layer, neurons in PRUNED.items():
        for name in (f"{prefix}.{layer}.mlp.fc1.weight", f"{prefix}.{layer}.mlp.fc1.bias"):
            expected[name] = before[name].clone()
            expected[name][neurons] = 0
        name = f"{prefix}.{layer}.mlp.fc2.weight"
        expected[name] = before[name].clone()
        expected[name][:, neurons] = 0
    assert all(torch.equal(after[name], tensor) for name, tensor in expected.items())
    assert sum(not torch.equal(after[name], before[name]) for name in before) == 6


def test_the_pruned_model_computes_as_if_the_neurons_never_fired(llava, small_benchmark, pruned):
    image = next(q.image for q in small_benchmark.questions if q.image)
    pixels = ImageBank(llava, small_benchmark).pixels([image])
    layers = llava.model.model.vision_tower.encoder.layers

    def silence(layer):
        return lambda _module, _inputs, output: output.masked_fill(pruned[layer], 0)

    hooks = [layers[layer].mlp.activation_fn.register_forward_hook(silence(layer)) for layer in PRUNED]
    with torch.no_grad():
        expected = llava.model.get_image_features(pixel_values=pixels).pooler_output[0]
        for hook in hooks:
            hook.remove()
        intact = llava.features(pixels)[0]
        zero_neurons(llava, pruned)
        found = llava.features(pixels)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, intact, rtol=1e-3)


def test_entries_of_pruned_neurons_are_named_by_parameter(llava, pruned):
    entries = pruned_entries(llava, pruned)
    parameters = dict(llava.model.named_parameters())
    counts = {name.split("layers.")[1]: int(gone.expand_as(parameters[name]).sum()) for name, gone in entries.items()}
    assert counts == {
        "1.mlp.fc1.weight": 3 * 128, "1.mlp.fc1.bias": 3, "1.mlp.fc2.weight": 3 * 128,
        "3.mlp.fc1.weight": 128, "3.mlp.fc1.bias": 1, "3.mlp.fc2.weight": 128,
    }  # fmt: skip
