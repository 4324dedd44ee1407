"""Ascending where a relearning attack has already taken a step, so that it finds nothing on its first steps.

Sharpness-aware minimisation turned to unlearning (Fan et al. 2025): weights that have forgotten only in a narrow valley
are one attack step from remembering. So the forgetting gradient is taken at the worst weights nearby: all of them, the
frozen LLM's too, moved against the sign of the forget loss's gradient, as Adam's first step would.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unsee.mllm.rows import Rows, mean_loss
from unsee.parallel import add_up, own_chunks


@contextmanager
def relearned(model: nn.Module, rows: Rows, keys: Sequence[str], step: float, micro_batch: int) -> Iterator[None]:
    """Inside, every weight is `step` nearer to answering these rows; afterwards all are back bit for bit.

    Keeps a copy of the weights meanwhile. Gradients are empty before and after.

    Args:
        micro_batch: how many rows go through the model at once.
    """
    before: list[tuple[nn.Parameter, Tensor]] = []
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for chunk, count in own_chunks(rows, keys, micro_batch):
            (mean_loss(rows.forward(chunk)) * count / len(keys)).backward()
        add_up(parameter.grad for parameter in model.parameters())
        _move(model, step, before)
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        with torch.no_grad():
            for parameter, weights in before:
                parameter.copy_(weights)
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None


@torch.no_grad()
def _move(model: nn.Module, step: float, before: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Take the step and the gradients away; `before` is given the weights as they were."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            before.append((parameter, parameter.clone()))
            parameter.sub_(parameter.grad.sign(), alpha=step)
            parameter.grad = None
