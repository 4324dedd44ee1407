"""Neuron importance: its ratio for unlearning (Eq. 7), and how it is stored. `activation` measures it on a model."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Importance = dict[int, Tensor]
"""Tower layer -> float32 [neurons]."""


def unlearning_importance(forget_vqa: Importance, others: Sequence[Importance]) -> Importance:
    """I_u (Eq. 7): forget-set importance over the sum of the other sets'; a neuron silent everywhere has 0."""
    return {layer: ratio(value, [other[layer] for other in others]) for layer, value in forget_vqa.items()}


def ratio(numerator: Tensor, denominators: Sequence[Tensor]) -> Tensor:
    """numerator / sum(denominators), elementwise; 0/0 is 0 (not salient), x/0 is infinite."""
    below = torch.stack(list(denominators)).sum(dim=0)
    return torch.where(numerator == 0, torch.zeros_like(numerator), numerator / below)


def flatten(tensors: Mapping[str, Mapping[int, Tensor]]) -> dict[str, Tensor]:
    """{"forget_vqa": {0: t}} -> {"forget_vqa/layers.0": t}, as stored."""
    return {f"{name}/layers.{layer}": t for name, by_layer in tensors.items() for layer, t in by_layer.items()}


def unflatten(tensors: Mapping[str, Tensor], name: str) -> Importance:
    """The inverse of `flatten` for one question set."""
    prefix = f"{name}/layers."
    return {int(key.removeprefix(prefix)): t for key, t in tensors.items() if key.startswith(prefix)}
