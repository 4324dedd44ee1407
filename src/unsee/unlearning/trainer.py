"""The one unlearning trainer: batches, masked gradients, pruned neurons held at zero, checkpoints.

The gradient of a step is grad(preserve) + m (.) grad(forget), each clipped on its own, so that neither term reaches a
weight through the other's norm; without weight decay, a weight whose gradient is always zero never moves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from unsee.settings import UnlearnSettings
from unsee.tracking import NoTracker, Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip
from unsee.unlearning.objective import Losses, Objective
from unsee.unlearning.saliency import SaliencyMask, require_live
from unsee.unlearning.visual import FrozenPrefix, Portraits


@dataclass(frozen=True)
class Unlearning:
    """Everything one unlearning run consists of.

    parameters: the tunable tensors by full name; all others are frozen. frozen_entries: per tensor, entries that must
    stay as they are (pruned neurons), broadcastable bool.
    """

    settings: UnlearnSettings
    objective: Objective
    forget: Portraits
    retain: Portraits
    source: FrozenPrefix
    parameters: Mapping[str, nn.Parameter]
    mask: SaliencyMask
    frozen_entries: Mapping[str, Tensor] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    tracker: Tracker = field(default_factory=NoTracker)

    @property
    def steps_per_epoch(self) -> int:
        """An epoch sees every forget portrait once."""
        return -(-len(self.forget.images) // self.settings.batch_forget_images)

    def run(self) -> Curve:
        """Fine-tune in place. Raises UserError if a mask matches no live tensor, TrainingFailure on NaN."""
        require_live(self.mask, self.parameters)
        only_tunable(self.forget.mllm.model, self.parameters)
        rule = Optimisation(self.settings.epochs * self.steps_per_epoch, self.settings.learning_rate)
        training = Training(
            self.parameters, self.gradients, rule, "unlearning", checkpoints=self.checkpoints, tracker=self.tracker
        )
        return training.run()

    def gradients(self, step: int) -> dict[str, float]:
        """Fill `.grad` for one step; returns the losses to record."""
        epoch, index = divmod(step, self.steps_per_epoch)
        forget_images, retain_images = list(self._batches(epoch))[index]
        forgetting = self.objective.forget(self.forget.forward(forget_images, self.source.features(forget_images)))
        ascent = self._gradients(forgetting)
        preserving = self.objective.preserve(self.retain.forward(retain_images, self.source.features(retain_images)))
        descent = self._gradients(preserving)
        self._combine(ascent, descent)
        return {name: float(part.detach()) for name, part in {**forgetting.parts, **preserving.parts}.items()}

    def _gradients(self, losses: Losses) -> dict[str, Tensor]:
        found = torch.autograd.grad(losses.total, list(self.parameters.values()))
        return dict(zip(self.parameters, found, strict=True))

    def _combine(self, forget: dict[str, Tensor], preserve: dict[str, Tensor]) -> None:
        """Mask, hold frozen entries, clip each term, add (Eq. 5)."""
        for name in self.parameters:
            salient = self.mask.masks[name].unpack()
            forget[name].mul_(salient)
            if self.settings.mask_on == "update":
                preserve[name].mul_(salient)
            if name in self.frozen_entries:
                forget[name].masked_fill_(self.frozen_entries[name], 0)
                preserve[name].masked_fill_(self.frozen_entries[name], 0)
        clip(list(forget.values()), self.settings.clip)
        clip(list(preserve.values()), self.settings.clip)
        for name, parameter in self.parameters.items():
            parameter.grad = forget[name] + preserve[name]

    def _batches(self, epoch: int) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
        """The epoch's (forget, retain) image batches: an order that depends on the seed and the epoch alone."""
        rng = np.random.default_rng([self.settings.seed, epoch])
        forget = rng.permutation(self.forget.images).tolist()
        size = self.settings.batch_retain_images
        passes = -(-self.steps_per_epoch * size // len(self.retain.images))
        retain = [image for _ in range(passes) for image in rng.permutation(self.retain.images).tolist()]
        for index in range(self.steps_per_epoch):
            start = index * self.settings.batch_forget_images
            yield forget[start : start + self.settings.batch_forget_images], retain[index * size : (index + 1) * size]


def only_tunable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Freeze every parameter that is not tunable: no gradient, no optimiser state, not one bit changed."""
    chosen = {id(parameter) for parameter in parameters.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
