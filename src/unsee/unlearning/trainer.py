"""The one unlearning trainer: batches, masked gradients, pruned neurons held at zero, checkpoints.

The gradient of a step is grad(preserve) + m (.) grad(forget), each clipped on its own, so that neither term reaches a
weight through the other's norm; without weight decay, a weight whose gradient is always zero never moves.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from unsee.mllm.families import only_tunable
from unsee.settings import UnlearnSettings
from unsee.tracking import NoTracker, Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip
from unsee.unlearning.method import Term
from unsee.mllm.rows import Rows
from unsee.unlearning.saliency import SaliencyMask, require_live

WARMUP = 10

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Unlearning:
    """Everything one unlearning run consists of.

    terms: what is minimised. forget: the rows an epoch sees once each. parameters: the tunable tensors of `model` by
    full name; all others are frozen. mask: None lets the forgetting terms change every weight. frozen_entries: per
    tensor, entries that must stay as they are (pruned neurons), broadcastable bool.
    """

    settings: UnlearnSettings
    model: nn.Module
    terms: Sequence[Term]
    forget: Rows
    parameters: Mapping[str, nn.Parameter]
    mask: SaliencyMask | None = None
    frozen_entries: Mapping[str, Tensor] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    tracker: Tracker = field(default_factory=NoTracker)

    @property
    def steps_per_epoch(self) -> int:
        """An epoch sees every forget portrait once."""
        return -(-len(self.forget.keys) // self.forget.batch)

    @property
    def steps(self) -> int:
        """`epochs` epochs, and `least_steps` where there are few portraits to forget."""
        return max(self.settings.epochs * self.steps_per_epoch, self.settings.least_steps)

    def run(self) -> Curve:
        """Fine-tune in place. Raises UserError if a mask matches no live tensor, TrainingFailure on NaN."""
        if not self.terms:
            return []
        if self.mask is not None:
            require_live(self.mask, self.parameters)
        only_tunable(self.model, self.parameters)
        rule = Optimisation(self.steps, self.settings.learning_rate, warmup=WARMUP)
        training = Training(
            self.parameters, self.gradients, rule, "unlearning", checkpoints=self.checkpoints, tracker=self.tracker
        )
        return training.run()

    def gradients(self, step: int) -> dict[str, float]:
        """Fill `.grad` for one step; returns the losses to record."""
        forget, forgetting = self._side(step, forgets=True)
        preserve, preserving = self._side(step, forgets=False)
        self._restrain(forget, masked=True)
        self._restrain(preserve, masked=self.settings.mask_on == "update")
        for name, parameter in self.parameters.items():
            found = [side[name] for side in (forget, preserve) if name in side]
            parameter.grad = sum(found[1:], start=found[0]) if found else None
        return {**forgetting, **preserving}

    @cached_property
    def _forwards(self) -> Mapping[tuple[bool, int], list[Term]]:
        """Terms on the same rows share a forward."""
        shared: dict[tuple[bool, int], list[Term]] = defaultdict(list)
        for term in self.terms:
            shared[term.forgets, id(term.rows)].append(term)
        return shared

    def _side(self, step: int, *, forgets: bool) -> tuple[Gradients, dict[str, float]]:
        """Gradients and losses of all terms of one side, by name; tensors that a side does not reach are left out."""
        losses: dict[str, float] = defaultdict(float)
        for (side, _), terms in self._forwards.items():
            if side == forgets:
                self._accumulate(terms, self.batch(terms[0].rows, step), losses)
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        for parameter in self.parameters.values():
            parameter.grad = None
        return gradients, dict(losses)

    def _accumulate(self, terms: Sequence[Term], keys: Sequence[str], losses: dict[str, float]) -> None:
        """Add a batch's gradients to `.grad`, a few rows at a time: losses are means over rows."""
        size = self.settings.micro_batch_images
        for chunk in (keys[start : start + size] for start in range(0, len(keys), size)):
            share = len(chunk) / len(keys)
            outputs = terms[0].rows.forward(chunk)
            values = [term.loss(outputs) for term in terms]
            torch.stack([share * term.weight * v for term, v in zip(terms, values, strict=True)]).sum().backward()
            for term, value in zip(terms, values, strict=True):
                losses[f"{term.name}_loss"] += share * float(value.detach())

    def batch(self, rows: Rows, step: int) -> list[str]:
        """The rows of a step: an order that depends on the seed and the step alone."""
        epoch, index = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng([self.settings.seed, epoch])
        needed = (index + 1) * rows.batch
        if rows is self.forget:
            return rng.permutation(rows.keys)[index * rows.batch : needed].tolist()
        drawn = [key for _ in range(-(-needed // len(rows.keys))) for key in rng.permutation(rows.keys).tolist()]
        return drawn[index * rows.batch : needed]

    def _restrain(self, gradients: Gradients, *, masked: bool) -> None:
        """Mask, hold frozen entries, clip (Eq. 5)."""
        for name, gradient in gradients.items():
            if masked and self.mask is not None:
                gradient.mul_(self.mask.masks[name].unpack())
            if name in self.frozen_entries:
                gradient.masked_fill_(self.frozen_entries[name], 0)
        if gradients:
            clip(list(gradients.values()), self.settings.clip)
