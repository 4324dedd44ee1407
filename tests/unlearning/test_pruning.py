"""Eq. 8 in the model: a pruned neuron is gone from weights, biases and columns, as if it never fired."""

import pytest
import torch
from unlearning_work import activations_of

from unsee.bench import plain
from unsee.mllm.rows import ImageBank
from unsee.pruning import pruned_entries, zero_neurons

PRUNED = {1: [0, 7, 511], 3: [3]}
TOWER = {"llava": "model.vision_tower.encoder.layers", "qwen2_vl": "model.visual.blocks"}


@pytest.fixture
def mllm(mllm):
    """With biases that are not zero from the start."""
    for mlp in mllm.tower_mlps():
        torch.nn.init.normal_(mlp.incoming[0].bias)
    return mllm


@pytest.fixture
def pruned():
    flags = {layer: torch.zeros(512, dtype=torch.bool) for layer in PRUNED}
    for layer, neurons in PRUNED.items():
        flags[layer][neurons] = True
    return flags


def test_rows_biases_and_columns_of_pruned_neurons_become_zero_and_nothing_else_changes(mllm, family, pruned):
    before = {name: tensor.clone() for name, tensor in mllm.model.state_dict().items()}
    zero_neurons(mllm, pruned)
    after = mllm.model.state_dict()
    expected = dict(before)
    for layer, neurons in PRUNED.items():
        for name in (f"{TOWER[family]}.{layer}.mlp.fc1.weight", f"{TOWER[family]}.{layer}.mlp.fc1.bias"):
            expected[name] = before[name].clone()
            expected[name][neurons] = 0
        name = f"{TOWER[family]}.{layer}.mlp.fc2.weight"
        expected[name] = before[name].clone()
        expected[name][:, neurons] = 0
    assert all(torch.equal(after[name], tensor) for name, tensor in expected.items())
    assert sum(not torch.equal(after[name], before[name]) for name in before) == 6


def test_the_pruned_model_computes_as_if_the_neurons_never_fired(mllm, small_benchmark, pruned):
    image = next(q.image for q in small_benchmark.questions if q.image)
    pixels = ImageBank(mllm, small_benchmark).pixels([image])

    def silence(layer):
        return lambda _module, _inputs, output: output.masked_fill(pruned[layer], 0)

    activations = activations_of(mllm)
    hooks = [activations[layer].register_forward_hook(silence(layer)) for layer in PRUNED]
    with torch.no_grad():
        expected = plain.features(mllm, pixels)[0]
        for hook in hooks:
            hook.remove()
        intact = mllm.features(pixels)[0]
        zero_neurons(mllm, pruned)
        found = mllm.features(pixels)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, intact, rtol=1e-3)


def test_entries_of_pruned_neurons_are_named_by_parameter(mllm, family, pruned):
    entries = pruned_entries(mllm, pruned)
    parameters = dict(mllm.model.named_parameters())
    counts = {
        name.removeprefix(f"{TOWER[family]}."): int(gone.expand_as(parameters[name]).sum())
        for name, gone in entries.items()
    }
    assert counts == {
        "1.mlp.fc1.weight": 3 * 128, "1.mlp.fc1.bias": 3, "1.mlp.fc2.weight": 3 * 128,
        "3.mlp.fc1.weight": 128, "3.mlp.fc1.bias": 1, "3.mlp.fc2.weight": 128,
    }  # fmt: skip
