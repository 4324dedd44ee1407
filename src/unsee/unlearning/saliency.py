"""The saliency mask (Eq. 10-11): which weights matter to the forget set and not to what must stay."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from unsee.errors import UserError
from unsee.sections import ThresholdSettings
from unsee.statistics.fisher import Fisher
from unsee.statistics.importance import ratio
from unsee.thresholds import Selection, select


@dataclass(frozen=True)
class BitMask:
    """A boolean tensor at one bit per entry."""

    bits: np.ndarray
    shape: torch.Size

    @classmethod
    def pack(cls, mask: Tensor) -> "BitMask":
        return cls(np.packbits(mask.cpu().numpy()), mask.shape)

    def unpack(self) -> Tensor:
        """bool, of the shape it was packed from."""
        flat = np.unpackbits(self.bits, count=self.shape.numel())
        return torch.from_numpy(flat).view(self.shape).bool()


@dataclass(frozen=True)
class SaliencyMask:
    """m = [R >= d_F] for every tunable tensor; `threshold` is the d_F used."""

    masks: Mapping[str, BitMask]
    threshold: float

    @classmethod
    def of(cls, selection: Selection[str]) -> "SaliencyMask":
        """The salient entries at one bit each."""
        return cls({name: BitMask.pack(mask) for name, mask in selection.chosen.items()}, selection.value)

    @property
    def density(self) -> dict[str, dict[str, int]]:
        """Per tensor, how many entries are salient."""
        return {n: {"kept": int(m.unpack().sum()), "of": m.shape.numel()} for n, m in self.masks.items()}


def salient(forget_vqa: Fisher, others: Iterable[Fisher], threshold: ThresholdSettings) -> Selection[str]:
    """R = F(D_f,vqa) / sum of the other sets' means (Eq. 10), [R >= d_F] (Eq. 11); 0/0 is not salient.

    The other sets are added up as they come, one in memory at a time.
    """
    below = {name: torch.zeros_like(fisher) for name, fisher in forget_vqa.items()}
    for other in others:
        for name, total in below.items():
            total += other[name]
        del other  # before the next is measured
    ratios = {name: ratio(fisher, [below.pop(name)]) for name, fisher in forget_vqa.items()}
    return select(ratios, threshold)


def saliency_mask(forget_vqa: Fisher, others: Iterable[Fisher], threshold: ThresholdSettings) -> SaliencyMask:
    """m (Eq. 11) of what is `salient`."""
    return SaliencyMask.of(salient(forget_vqa, others, threshold))


def require_live(mask: SaliencyMask, parameters: Mapping[str, nn.Parameter]) -> None:
    """Every tunable tensor has a mask of its shape, and every mask a tunable tensor.

    Raises:
        UserError: the mask would silently not bite (renamed, missing or differently shaped tensors).
    """
    if mask.masks.keys() != parameters.keys():
        differing = sorted(mask.masks.keys() ^ parameters.keys())
        raise UserError(
            f"the saliency mask does not cover the tunable tensors ({differing[0]}); collect statistics again"
        )
    for name, parameter in parameters.items():
        if mask.masks[name].shape != parameter.shape:
            raise UserError(f"the saliency mask of {name} has another shape than the tensor; collect statistics again")
