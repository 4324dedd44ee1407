"""What a method states: one loss that forgets (the saliency mask applies to it) and one that preserves."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from unsee.unlearning.visual import Outputs


@dataclass(frozen=True)
class Losses:
    """`total` is minimised; `parts` are recorded as training curves."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(Protocol):
    """A method's losses on a batch of forget portraits and on a batch of retain portraits."""

    def forget(self, outputs: Outputs) -> Losses: ...

    def preserve(self, outputs: Outputs) -> Losses: ...
