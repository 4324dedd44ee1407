"""Parts of a model, and which of them train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unsee.errors import UserError

COARSE = (torch.bfloat16, torch.float16)


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


def finer(dtype: torch.dtype) -> torch.dtype:
    """float32, or what is finer: the dtype of sums, of weights that are trained, and of what is known about them."""
    return torch.promote_types(dtype, torch.float32)


def only_tunable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Freeze every parameter that is not tunable: no gradient, no optimiser state, not one bit changed.

    What is tunable becomes float32 if it is coarser, since small changes would be lost; it goes on computing as before,
    but for a tower whose patch embedding is tunable, which computes in float32.
    """
    chosen = {id(parameter) for parameter in parameters.values()}
    coarse = {id(parameter): parameter.dtype for parameter in model.parameters() if parameter.dtype in COARSE}
    for module in model.modules():
        own = [id(p) for p in module.parameters(recurse=False) if id(p) in chosen & coarse.keys()]
        if own:
            Lowered(coarse[own[0]]).watch(module)
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        if id(parameter) in chosen & coarse.keys():
            parameter.data = parameter.data.float()


@dataclass
class Lowered:
    """Lets a module whose weights are float32 compute in `dtype`, where its input is of that or ids of tokens."""

    dtype: torch.dtype
    weights: dict[str, nn.Parameter | None] = field(default_factory=dict)

    def watch(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].is_floating_point() or inputs[0].dtype == self.dtype:
            self.weights = dict(module._parameters)
            cast = {name: p.to(self.dtype) for name, p in module.named_parameters(recurse=False)}
            module._parameters.update(cast)  # type: ignore[arg-type]

    def _after(self, module: nn.Module, *_: object) -> None:
        module._parameters.update(self.weights)
        self.weights = {}
