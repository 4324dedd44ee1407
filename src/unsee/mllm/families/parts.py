"""Parts of a model, and which of them train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unsee.errors import UserError
from unsee.parallel import world


@dataclass(frozen=True)
class Mlp:
    """One MLP of the tower or the LLM: its hidden units ("neurons") are the inputs of `outgoing`.

    incoming: modules whose output rows belong to neurons (fc1; gated MLPs: gate and up).
    """

    layer: int
    incoming: tuple[nn.Linear, ...]
    outgoing: nn.Linear


def feeding(layers: Sequence[Any], chosen: int | Sequence[int]) -> Sequence[Any]:
    """The layers of a tower before the hidden state that config.json calls `vision_feature_layer`.

    Raises:
        UserError: there are several.
    """
    if not isinstance(chosen, int):
        raise UserError(
            f"config.json: vision_feature_layer = {list(chosen)}, but a projector that reads several tower layers is "
            "not supported; use a model whose projector reads one"
        )
    return layers[: chosen if chosen >= 0 else len(layers) + 1 + chosen]


def only_tunable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Freeze every parameter that is not tunable: no gradient, no optimiser state, not one bit changed."""
    chosen = {id(parameter) for parameter in parameters.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def set_compute(threads: int) -> None:
    """Fix the thread count, which all processes of a step share, and flush denormals: equal inputs give equal bits only
    at an equal thread count."""
    torch.set_num_threads(max(1, threads // world()))
    torch.set_flush_denormal(True)
