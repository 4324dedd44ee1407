"""Neuron importance: mean absolute activation per tower MLP neuron (Eq. 6) and its ratio for unlearning (Eq. 7)."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from unsee.mllm.families import Mllm, finer
from unsee.mllm.rows import FrameOf, Pixels, chunked, usual
from unsee.parallel import add_up, own
from unsee.progress import progress

Importance = dict[int, Tensor]
"""Tower layer -> float32 [neurons]."""


@torch.no_grad()
def mean_absolute_activation(
    mllm: Mllm, pixels: Pixels, images: Sequence[str], batch: int, frame: FrameOf = usual
) -> Importance:
    """I_abs (Eq. 6): mean over images, and over tokens inside an image, of |z|, for every tower MLP.

    z is what the MLP's outgoing layer reads. All questions about an image see the same tower activations, so the
    tower runs once per image. Without an image it does not run: the qa sets' importance is exactly zero.

    Args:
        frame: the images'.
    """
    mlps = mllm.tower_mlps()
    summed = {mlp.layer: torch.zeros(mlp.outgoing.in_features, device=mllm.device) for mlp in mlps}

    def add(layer: int) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            of_images = inputs[0].abs().reshape(len(chunk), -1, inputs[0].shape[-1])
            summed[layer] += of_images.mean(dim=1, dtype=finer(of_images.dtype)).sum(dim=0)

        return hook

    hooks = [mlp.outgoing.register_forward_pre_hook(add(mlp.layer)) for mlp in mlps]
    try:
        for chunk in progress(chunked(own(images), batch, frame), "neuron importance"):
            mllm.at(frame(chunk[0])).up_to(pixels(chunk))
    finally:
        for hook in hooks:
            hook.remove()
    add_up(summed.values())
    return {layer: total.cpu() / len(images) for layer, total in summed.items()}


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
