"""How far ours and plain are apart, in float64, where a difference in what is computed shows beyond rounding."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from unsee.bench.float64 import to_float64
from unsee.bench.ours import Ours
from unsee.bench.stock import Stock
from unsee.bench.workloads import Recipe

BATCHES = ("unlearn.batch_forget_images=1", "unlearn.batch_retain_images=2", "unlearn.micro_batch_images=1")
BATCH_ROWS = 7


def relative_differences(recipe: Recipe, directory: Path) -> dict[str, float]:
    """The largest ||ours - plain|| / ||plain|| among the losses and gradients of an unlearning step, the option scores
    and the Fisher information, each loss, tensor and question on its own."""
    mine, other = (recipe.build(directory, *BATCHES) for _ in range(2))
    to_float64(mine.mllm)
    to_float64(other.mllm)
    ours, stock = Ours(mine), Stock(other, BATCH_ROWS)
    losses, gradients = ours.gradients()
    plain_losses, plain_gradients = stock.gradients()
    scores = [torch.tensor(values, dtype=torch.float64) for values in ours.scores(mine.asked)]
    plain_scores = [torch.tensor(values, dtype=torch.float64) for values in stock.scores(other.asked)]
    return {
        "losses": max(abs(losses[name] / plain_losses[name] - 1) for name in losses),
        "gradients": _of_tensors(gradients, plain_gradients),
        "option_scores": _largest(zip(scores, plain_scores, strict=True)),
        "fisher": _of_tensors(ours.statistics().fisher, stock.statistics().fisher),
    }


def _of_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    if found.keys() != expected.keys():
        raise ValueError(f"ours and plain differ in their tensors: {sorted(found.keys() ^ expected.keys())}")
    return _largest((found[name], expected[name]) for name in expected)


def _largest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    return max(float((found - expected).norm() / expected.norm()) for found, expected in pairs)
