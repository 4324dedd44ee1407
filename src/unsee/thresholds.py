"""One rule for Eq. 8 and Eq. 11: entries whose ratio reaches a threshold, given as a value or as a fraction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from unsee.sections import ThresholdSettings

Key = TypeVar("Key")


@dataclass(frozen=True)
class Selection(Generic[Key]):
    """Which entries reached the threshold, the value that was used, and the fraction of all entries it selected."""

    chosen: Mapping[Key, Tensor]
    value: float
    fraction: float


def select(ratios: Mapping[Key, Tensor], threshold: ThresholdSettings) -> Selection[Key]:
    """Boolean tensors [ratio >= threshold], shaped as the ratios; a ratio of 0 is never selected.

    A fraction selects that share of the entries of all tensors together, the largest ratios first (ties may add some).
    """
    value = threshold.value if threshold.fraction is None else _quantile(ratios, threshold.fraction)
    chosen = {key: torch.zeros_like(ratio, dtype=torch.bool) for key, ratio in ratios.items()}
    if value is not None:
        chosen = {key: (ratio >= value) & (ratio > 0) for key, ratio in ratios.items()}
    total = sum(ratio.numel() for ratio in ratios.values())
    return Selection(
        chosen, float("inf") if value is None else value, sum(int(c.sum()) for c in chosen.values()) / total
    )


def _quantile(ratios: Mapping[Key, Tensor], fraction: float) -> float | None:
    """The smallest of the largest `fraction` of all entries; None if that is no entry at all."""
    flat = torch.cat([ratio.flatten() for ratio in ratios.values()])
    count = round(fraction * len(flat))
    return float(flat.kthvalue(len(flat) - count + 1).values) if count else None
