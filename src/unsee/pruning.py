"""Neuron pruning (Eq. 8): what a pruned neuron is made of becomes zero, and stays zero."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unsee.mllm.families import Mllm
from unsee.settings import PruneSettings
from unsee.statistics.importance import Importance
from unsee.thresholds import Selection, select

Pruned = Mapping[int, Tensor]
"""Tower layer -> bool [neurons], True where the neuron is pruned."""


def choose_neurons(importance: Importance, settings: PruneSettings) -> Selection[int]:
    """n_P = [I_u >= d_I] over the deepest `settings.layers` layers (Eq. 8)."""
    layers = sorted(importance)[-settings.layers :] if settings.layers else sorted(importance)
    return select({layer: importance[layer] for layer in layers}, settings.threshold)


def pruned_entries(mllm: Mllm, pruned: Pruned) -> dict[str, Tensor]:
    """Per parameter, the entries that belong to pruned neurons: rows (and biases) of the incoming layers, columns of
    the outgoing one. Bool tensors shaped to broadcast over the parameter."""
    names = {id(parameter): name for name, parameter in mllm.model.named_parameters()}
    entries: dict[str, Tensor] = {}
    for mlp in mllm.tower_mlps():
        if mlp.layer not in pruned:
            continue
        gone = pruned[mlp.layer]
        for linear in mlp.incoming:
            entries[names[id(linear.weight)]] = gone[:, None]
            if linear.bias is not None:
                entries[names[id(linear.bias)]] = gone
        entries[names[id(mlp.outgoing.weight)]] = gone[None, :]
    return entries


@torch.no_grad()
def zero_neurons(mllm: Mllm, pruned: Pruned) -> None:
    """Prune in place."""
    parameters = dict(mllm.model.named_parameters())
    for name, gone in pruned_entries(mllm, pruned).items():
        parameters[name].masked_fill_(gone, 0)
