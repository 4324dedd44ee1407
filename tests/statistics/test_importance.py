"""Eq. 6 and 7 against a plain loop over images through transformers' stock tower."""

import pytest
import torch
from unlearning_work import activations_of

from unsee.bench import plain
from unsee.mllm.rows import ImageBank
from unsee.pruning import choose_neurons
from unsee.sections import PruneSettings
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.importance import (
    flatten,
    ratio,
    unflatten,
    unlearning_importance,
)


def images_of(benchmark, count):
    return list(dict.fromkeys(q.image for q in benchmark.select(role="train", modality="vqa")))[:count]


def plain_importance(mllm, pixels):
    """One image at a time, |activation| read from output hooks on the activation functions."""
    sums = {}

    def watch(layer):
        def hook(_module, _inputs, output):
            sums[layer] = sums.get(layer, 0) + output.flatten(0, -2).double().abs().mean(dim=0)

        return hook

    hooks = [activation.register_forward_hook(watch(i)) for i, activation in enumerate(activations_of(mllm))]
    with torch.no_grad():
        for image in pixels:
            plain.features(mllm, image[None])
    for hook in hooks:
        hook.remove()
    return {layer: total / len(pixels) for layer, total in sums.items()}


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_eq_6_is_the_mean_over_images_of_the_mean_over_tokens_of_absolute_activations(mllm, small_benchmark, batch):
    bank, images = ImageBank(mllm, small_benchmark), images_of(small_benchmark, 7)
    found = mean_absolute_activation(mllm, bank.pixels, images, batch)
    expected = plain_importance(mllm, bank.pixels(images))
    assert found.keys() == expected.keys() == {0, 1, 2, 3}
    for layer, importance in found.items():
        torch.testing.assert_close(importance.double(), expected[layer], rtol=1e-5, atol=1e-8)


def test_measuring_leaves_no_hooks_behind(mllm, small_benchmark):
    bank, images = ImageBank(mllm, small_benchmark), images_of(small_benchmark, 2)
    mean_absolute_activation(mllm, bank.pixels, images, 2)
    assert all(not mlp.outgoing._forward_pre_hooks for mlp in mllm.tower_mlps())


def test_eq_7_divides_by_the_sum_of_the_other_sets():
    forget = {0: torch.tensor([1.0, 2.0]), 1: torch.tensor([6.0])}
    others = [
        {0: torch.tensor([1.0, 3.0]), 1: torch.tensor([2.0])},
        {0: torch.tensor([1.0, 1.0]), 1: torch.tensor([1.0])},
    ]
    found = unlearning_importance(forget, others)
    assert found[0].tolist() == [0.5, 0.5]
    assert found[1].tolist() == [2.0]


def test_sets_in_which_the_tower_does_not_run_change_nothing():
    forget, retain = {0: torch.rand(5)}, {0: torch.rand(5)}
    zero = {0: torch.zeros(5)}
    assert torch.equal(
        unlearning_importance(forget, [zero, retain, zero])[0], unlearning_importance(forget, [retain])[0]
    )


def test_a_neuron_silent_everywhere_is_not_important_and_one_silent_elsewhere_is_infinitely_so():
    found = ratio(torch.tensor([0.0, 0.0, 2.0]), [torch.tensor([0.0, 1.0, 0.0])])
    assert found.tolist() == [0.0, 0.0, float("inf")]


def test_importance_is_stored_and_read_back_per_question_set():
    importance = {"forget_vqa": {0: torch.rand(3), 11: torch.rand(3)}, "retain_vqa": {0: torch.rand(3)}}
    stored = flatten(importance)
    assert sorted(stored) == ["forget_vqa/layers.0", "forget_vqa/layers.11", "retain_vqa/layers.0"]
    assert unflatten(stored, "forget_vqa") == importance["forget_vqa"]


IMPORTANCE = {0: torch.tensor([9.0, 0.1]), 1: torch.tensor([1.0, 0.5]), 2: torch.tensor([2.0, 1.0])}


@pytest.mark.parametrize(
    ("threshold", "layers", "pruned", "value"),
    [
        ({"value": 1.0}, None, {0: [True, False], 1: [True, False], 2: [True, True]}, 1.0),
        ({"value": 1.0}, 2, {1: [True, False], 2: [True, True]}, 1.0),
        ({"fraction": 0.25}, 2, {1: [False, False], 2: [True, False]}, 2.0),
        ({"fraction": 1 / 3}, None, {0: [True, False], 1: [False, False], 2: [True, False]}, 2.0),
    ],
)
def test_eq_8_chooses_neurons_that_reach_the_threshold_in_the_deepest_layers(threshold, layers, pruned, value):
    selection = choose_neurons(IMPORTANCE, PruneSettings(threshold=threshold, layers=layers))
    assert {layer: chosen.tolist() for layer, chosen in selection.chosen.items()} == pruned
    assert selection.value == value
    chosen = [flag for flags in pruned.values() for flag in flags]
    assert selection.fraction == sum(chosen) / len(chosen)
