"""Neuron pruning (Eq. 8): what a pruned neuron is made of becomes zero, and stays zero."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unsee.sections import PruneSettings
from unsee.statistics.importance import Importance
from unsee.thresholds import Selection, select

if TYPE_CHECKING:  # the thresholds are applied without a model
    from unsee.mllm.families import Mllm, Mlp

Pruned = Mapping[int, Tensor]
"""Tower layer -> bool [neurons], True where the neuron is pruned."""


def choose_neurons(importance: Importance, settings: PruneSettings) -> Selection[int]:
    """n_P = [I_u >= d_I] over the deepest `settings.layers` layers (Eq. 8)."""
    layers = sorted(importance)[-settings.layers :] if settings.layers else sorted(importance)
    return select({layer: importance[layer] for layer in layers}, settings.threshold)


def pruned_entries(mllm: "Mllm", pruned: Pruned) -> dict[str, Tensor]:
    """Per parameter of the tower, the entries that belong to pruned neurons: rows (and biases) of the incoming layers,
    columns of the outgoing one. Bool tensors shaped to broadcast over the parameter."""
    names = {id(parameter): name for name, parameter in mllm.model.named_parameters()}
    mlps = (mlp for mlp in mllm.tower_mlps() if mlp.layer in pruned)
    return {names[id(p)]: gone.to(p.device) for mlp in mlps for p, gone in _entries(mlp, pruned[mlp.layer])}


def _entries(mlp: "Mlp", gone: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for linear in mlp.incoming:
        yield linear.weight, gone[:, None]
        if linear.bias is not None:
            yield linear.bias, gone
    yield mlp.outgoing.weight, gone[None, :]


def zero_neurons(mllm: "Mllm", pruned: Pruned) -> None:
    """Prune the tower in place."""
    for mlp in mllm.tower_mlps():
        if mlp.layer in pruned:
            zero(mlp, pruned[mlp.layer])


@torch.no_grad()
def zero(mlp: "Mlp", gone: Tensor) -> None:
    """Prune one MLP in place; `gone`: bool [neurons]."""
    for parameter, entries in _entries(mlp, gone.to(mlp.outgoing.weight.device)):
        parameter.masked_fill_(entries, 0)
