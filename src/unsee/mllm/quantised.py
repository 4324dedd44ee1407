"""A frozen LLM in 8 or 4 bits a weight.

The weights of its linear layers are whole numbers, times a scale that 64 neighbours in a row share (symmetric, rounded
to the nearest). They are unpacked whenever they are multiplied with, and no unpacked copy is kept for the backward
pass: what is computed, gradients included, is of the model's own precision.
"""

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from unsee.sections import Bits

GROUP = 64
ROWS = 256
"""How many are rounded at once: on the way they take four times as many bytes as in float32."""


def quantise(llm: nn.Module, bits: Bits) -> None:
    """Put quantised layers, which still have to `take` their weights, in the place of all linear ones."""
    linear = {name: module for name, module in llm.named_modules() if isinstance(module, nn.Linear)}
    for name, module in linear.items():
        llm.set_submodule(name, QuantisedLinear(module, bits))


def quantised(model: nn.Module) -> dict[str, "QuantisedLinear"]:
    """The quantised layers by the full names of their weights."""
    return {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, QuantisedLinear)}


class QuantisedLinear(nn.Module):
    """x W^T + b, with a gradient for x alone.

    shape: of W, [out, in]. weight: uint8 [out, in * bits / 8], half of the range is zero; of 4 bits, the columns' first
    half is in the lower half of each byte. scales: [out, groups, 1], as precise as the model; in no state dict.
    """

    weight: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear, bits: Bits):
        super().__init__()
        self.bits, self.shape = bits, linear.weight.shape
        rows, columns = self.shape
        empty = linear.weight.detach().new_empty
        self.register_buffer("weight", empty(rows, columns * bits // 8, dtype=torch.uint8))
        self.register_buffer("scales", empty(rows, columns // gcd(columns, GROUP), 1), persistent=False)
        self.bias = linear.bias

    @torch.no_grad()
    def take(self, weight: Tensor) -> None:
        """Store W, [out, in] of any precision, as nearly as it can be."""
        for rows in zip(weight.split(ROWS), self.weight.split(ROWS), self.scales.split(ROWS), strict=True):
            self._take(*rows)

    def _take(self, weight: Tensor, numbers: Tensor, scales: Tensor) -> None:
        """Store some rows in theirs of `weight` and `scales`."""
        most = 2 ** (self.bits - 1) - 1
        groups = weight.to(scales.device, torch.float32).unflatten(1, (scales.shape[1], -1))
        scales.copy_((groups.abs().amax(dim=2, keepdim=True) / most).clamp(min=torch.finfo(torch.float32).tiny))
        whole = (groups / scales.float()).round_().clamp_(-most, most).add_(most + 1).flatten(1).to(torch.uint8)
        if self.bits == 4:
            lower, upper = whole.chunk(2, dim=1)
            whole = lower | upper << 4
        numbers.copy_(whole)

    def unpacked(self) -> Tensor:
        """W as it is multiplied with, [out, in]."""
        numbers = self.weight if self.bits == 8 else torch.cat([self.weight & 15, self.weight >> 4], dim=1)
        whole = numbers.to(self.scales.dtype).sub_(2 ** (self.bits - 1))
        return whole.unflatten(1, (self.scales.shape[1], -1)).mul_(self.scales).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        product = _Product.apply(x, self)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """x W^T, which unpacks W anew in its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return x @ layer.unpacked().T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.unpacked(), None
