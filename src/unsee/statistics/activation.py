"""How active the neurons of the tower's MLPs are (Eq. 6), measured on a model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unsee.mllm.families import Mllm, finer
from unsee.mllm.rows import FrameOf, Pixels, chunked, usual
from unsee.parallel import add_up, own
from unsee.progress import progress
from unsee.statistics.importance import Importance


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
