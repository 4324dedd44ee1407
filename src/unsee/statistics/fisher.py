"""Diagonal Fisher information: mean over samples of squared per-sample gradients, in float32 or finer (Eq. 9-10).

As printed, Eq. 9 squares the gradient of a summed loss; the diagonal Fisher it cites is the mean of squared
per-sample gradients, and that is what is computed here. Samples in a batch do not interact, so the weight gradient of
sample b at a linear layer is delta_b^T x_b, at a layer norm the sum over tokens of delta_b * (x_b, normalised): one
backward of the summed loss gives all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from unsee.mllm.families import finer, only_tunable
from unsee.mllm.rows import Rows
from unsee.parallel import add_up, own, total

Fisher = dict[str, Tensor]
"""Parameter name -> float32 (float64 for a float64 model) of the parameter's shape."""


class PerSampleSquares:
    """Adds up squared per-sample gradients of layers during backward passes.

    Every layer must be applied once per forward, to tokens of all samples [..., in], those of one sample next to each
    other and as many of each. samples: how many there were in the last forward.
    """

    def __init__(self, layers: dict[str, nn.Module]):
        self.layers = layers
        self.samples = 0
        self._watching = True
        self.sums = {
            f"{name}.{leaf}": torch.zeros_like(p, dtype=finer(p.dtype))
            for name, layer in layers.items()
            for leaf, p in layer.named_parameters(recurse=False)
        }
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "PerSampleSquares":
        self._hooks = [layer.register_forward_hook(self._watch(name)) for name, layer in self.layers.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _watch(self, name: str) -> Callable[..., None]:
        """A forward hook that waits for the gradient of the layer's output, [..., out]."""

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            read = inputs[0].detach()
            if self._watching and output.requires_grad:
                output.register_hook(lambda delta: self._add(name, layer, read, delta))

        return hook

    def _add(self, name: str, layer: nn.Module, read: Tensor, delta: Tensor) -> None:
        for leaf, gradients in self._gradients(layer, read, delta).items():
            self.sums[f"{name}.{leaf}"] += gradients.square_().sum(dim=0)

    def _gradients(self, layer: nn.Module, read: Tensor, delta: Tensor) -> dict[str, Tensor]:
        """Per-sample gradients [samples, ...] of the layer's own parameters, in float32 or finer."""
        dtype = finer(delta.dtype)
        read, delta = (t.to(dtype).reshape(self.samples, -1, t.shape[-1]) for t in (read, delta))
        if isinstance(layer, nn.Linear):
            found = {"weight": delta.transpose(1, 2) @ read}
        elif isinstance(layer, nn.LayerNorm):
            found = {"weight": (delta * F.layer_norm(read, layer.normalized_shape, eps=layer.eps)).sum(dim=1)}
        else:
            return self._rerun(layer, read, delta)
        return found if layer.bias is None else {**found, "bias": delta.sum(dim=1)}

    def _rerun(self, layer: nn.Module, read: Tensor, delta: Tensor) -> dict[str, Tensor]:
        """The same for a layer of another kind, by running it again for each sample."""

        def along(parameters: dict[str, Tensor], inputs: Tensor, wanted: Tensor) -> Tensor:
            return (functional_call(layer, parameters, (inputs[None],)) * wanted[None]).sum()

        own = {leaf: p.detach().to(read.dtype) for leaf, p in layer.named_parameters(recurse=False)}
        self._watching = False
        with torch.enable_grad():
            found = vmap(grad(along), in_dims=(None, 0, 0))(own, read, delta)
        self._watching = True
        return found


def diagonal_fisher(
    layers: dict[str, nn.Module],
    losses: Iterable[Callable[[], tuple[Tensor, Tensor]]],
    unit: Literal["image", "question"],
) -> Fisher:
    """F = mean over samples of (gradient of the sample's loss)^2.

    Args:
        layers: those whose own parameters are measured, by full name.
        losses: per batch a function that runs the forward and gives question losses [B, Q] and weights [B, Q] (1 for a
            question, 0 for padding). Of several processes, each gives its own batches.
        unit: a sample is one image with its questions (mean loss over them), or one question.
    """
    samples = 0
    inputs = [p for layer in layers.values() for p in layer.parameters(recurse=False)]
    for parameter in inputs:
        parameter.requires_grad_(True)
    with PerSampleSquares(layers) as squares:
        for forward in losses:
            questions, weights = forward()
            squares.samples = len(questions)
            if unit == "image":
                per_image = (questions * weights).sum(dim=1) / weights.sum(dim=1)
                torch.autograd.grad(per_image.sum(), inputs)
                samples += len(per_image)
            else:
                for column in range(questions.shape[1]):
                    torch.autograd.grad((questions * weights)[:, column].sum(), inputs, retain_graph=True)
                samples += int(weights.sum())
    return _mean(squares.sums, samples)


def fisher_of_rows(parameters: Mapping[str, nn.Parameter], rows: Rows, unit: Literal["image", "question"]) -> Fisher:
    """F of any tensors, a sample being a row or one of its questions: one backward each. Zero where no gradient
    arrives."""
    sums = {n: torch.zeros_like(p, dtype=finer(p.dtype)) for n, p in parameters.items()}
    inputs, samples = list(parameters.values()), 0
    only_tunable(rows.mllm.model, parameters)
    for key in own(rows.keys):
        outputs = rows.forward([key])
        for loss in [outputs.mean(outputs.losses)] if unit == "image" else outputs.losses[0]:
            gradients = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=unit == "question")
            for summed, gradient in zip(sums.values(), gradients, strict=True):
                if gradient is not None:
                    summed += gradient.to(summed.dtype).square()
            samples += 1
    return _mean(sums, samples)


def _mean(sums: Fisher, samples: int) -> Fisher:
    """Over the samples of all processes, made of the sums over those of this one."""
    add_up(sums.values())
    samples = int(total({"samples": samples})["samples"])
    return {name: summed.div_(samples) for name, summed in sums.items()}
