"""The one unlearning trainer: batches, masked gradients, pruned neurons held at zero, checkpoints.

The gradient of a step is grad(preserve) + m (.) grad(forget), each clipped on its own, so that neither term reaches a
weight through the other's norm; without weight decay, a weight whose gradient is always zero never moves.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from unsee.settings import UnlearnSettings
from unsee.tracking import NoTracker, Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip
from unsee.unlearning.objective import Losses, Objective
from unsee.unlearning.saliency import SaliencyMask, require_live
from unsee.unlearning.visual import FrozenPrefix, Outputs, Portraits

WARMUP = 10


@dataclass(frozen=True)
class Look:
    """One version of the portraits: where their features come from, and the losses on them."""

    source: FrozenPrefix
    objective: Objective


@dataclass(frozen=True)
class Unlearning:
    """Everything one unlearning run consists of.

    looks: versions of the portraits, one epoch each in turn. parameters: the tunable tensors by full name; all others
    are frozen. frozen_entries: per tensor, entries that must stay as they are (pruned neurons), broadcastable bool.
    """

    settings: UnlearnSettings
    looks: Sequence[Look]
    forget: Portraits
    retain: Portraits
    parameters: Mapping[str, nn.Parameter]
    mask: SaliencyMask
    frozen_entries: Mapping[str, Tensor] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    tracker: Tracker = field(default_factory=NoTracker)

    @property
    def steps_per_epoch(self) -> int:
        """An epoch sees every forget portrait once."""
        return -(-len(self.forget.images) // self.settings.batch_forget_images)

    @property
    def steps(self) -> int:
        """`epochs` epochs, or `least_steps` where there are few portraits to forget."""
        return max(self.settings.epochs * self.steps_per_epoch, self.settings.least_steps)

    def run(self) -> Curve:
        """Fine-tune in place. Raises UserError if a mask matches no live tensor, TrainingFailure on NaN."""
        require_live(self.mask, self.parameters)
        only_tunable(self.forget.mllm.model, self.parameters)
        rule = Optimisation(self.steps, self.settings.learning_rate, warmup=WARMUP, decay=self.settings.decay)
        training = Training(
            self.parameters, self.gradients, rule, "unlearning", checkpoints=self.checkpoints, tracker=self.tracker
        )
        return training.run()

    def gradients(self, step: int) -> dict[str, float]:
        """Fill `.grad` for one step; returns the losses to record."""
        forget_images, retain_images = image_batches(self.settings, self.forget.images, self.retain.images, step)
        look = self.looks[step // self.steps_per_epoch % len(self.looks)]
        ascent, forgetting = self._gradients(self.forget, forget_images, look.source, look.objective.forget)
        descent, preserving = self._gradients(self.retain, retain_images, look.source, look.objective.preserve)
        self._combine(ascent, descent)
        return {**forgetting, **preserving}

    def _gradients(
        self,
        portraits: Portraits,
        images: Sequence[str],
        source: FrozenPrefix,
        objective: Callable[[Outputs], Losses],
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Gradients and losses of a batch, a few images at a time: both are means over images."""
        gradients = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        parts: dict[str, float] = defaultdict(float)
        size = self.settings.micro_batch_images
        for chunk in (images[start : start + size] for start in range(0, len(images), size)):
            share = len(chunk) / len(images)
            losses = objective(portraits.forward(chunk, source.features(chunk)))
            found = torch.autograd.grad(losses.total * share, list(self.parameters.values()))
            for total, gradient in zip(gradients.values(), found, strict=True):
                total += gradient
            for name, part in losses.parts.items():
                parts[name] += share * float(part.detach())
        return gradients, dict(parts)

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


def image_batches(
    settings: UnlearnSettings, forget: Sequence[str], retain: Sequence[str], step: int
) -> tuple[list[str], list[str]]:
    """The (forget, retain) images of a step: an order that depends on the seed and the step alone."""
    size = settings.batch_retain_images
    steps = -(-len(forget) // settings.batch_forget_images)
    epoch, index = divmod(step, steps)
    rng = np.random.default_rng([settings.seed, epoch])
    ascended = rng.permutation(forget).tolist()
    passes = -(-steps * size // len(retain))
    preserved = [image for _ in range(passes) for image in rng.permutation(retain).tolist()]
    start = index * settings.batch_forget_images
    return ascended[start : start + settings.batch_forget_images], preserved[index * size : (index + 1) * size]


def only_tunable(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Freeze every parameter that is not tunable: no gradient, no optimiser state, not one bit changed."""
    chosen = {id(parameter) for parameter in parameters.values()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
