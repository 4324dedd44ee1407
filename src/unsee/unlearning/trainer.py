"""The one unlearning trainer: batches, masked gradients, pruned neurons held at zero, checkpoints.

The gradient of a step is grad(preserve) + m (.) grad(forget), each clipped on its own, so that neither term reaches a
weight through the other's norm; without weight decay, a weight whose gradient is always zero never moves.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from unsee.memory import peak_resident
from unsee.mllm.families import Mllm, only_tunable
from unsee.mllm.rows import Images, Rows
from unsee.parallel import add_up, own_chunks, share_like, total
from unsee.pruning import Pruned
from unsee.sections import UnlearnSettings
from unsee.sharding import gather, shard
from unsee.tracking import NoTracker, Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip
from unsee.unlearning.method import Term, Work, find
from unsee.unlearning.resistance import relearned
from unsee.unlearning.saliency import SaliencyMask, require_live

WARMUP = 10

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Unlearning:
    """Everything one unlearning run consists of.

    terms: what is minimised, for each version of the portraits, an epoch each in turn. portraits: how many an epoch
    ascends on. parameters: the tunable tensors of the model by full name; all others are frozen. finish: edits the
    trained model. pruned: the neurons removed so far, by part of the model. told: what the method says about what it
    works with. mask: None lets the forgetting terms change every weight. frozen_entries: per tensor, entries that must
    stay as they are (pruned neurons), broadcastable bool.
    """

    settings: UnlearnSettings
    mllm: Mllm
    terms: Sequence[Sequence[Term]]
    portraits: int
    parameters: Mapping[str, nn.Parameter]
    finish: Callable[[], None]
    pruned: Mapping[str, Pruned]
    told: Mapping[str, float] = field(default_factory=dict)
    mask: SaliencyMask | None = None
    frozen_entries: Mapping[str, Tensor] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    tracker: Tracker = field(default_factory=NoTracker)
    clock: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, work: Work, checkpoints: Checkpoints, tracker: Tracker, *, tells: bool = True) -> "Unlearning":
        """A method's work on the vanilla model, which is edited where the method does so before training.

        tells: whether to ask for `Method.told`, which takes time of its own.
        """
        method = find(work.settings.method)(work.settings, work)
        told = method.told() if tells else {}
        terms = [method.terms(version) for version in work.versions]
        mask = method.mask()
        return cls(
            settings=work.settings,
            mllm=work.mllm,
            terms=terms,
            portraits=len(work.forget.keys),
            parameters=work.parameters,
            finish=method.after,
            pruned=method.pruned,
            told=told,
            mask=mask,
            frozen_entries=method.before(),
            checkpoints=checkpoints,
            tracker=tracker,
        )

    @property
    def steps_per_epoch(self) -> int:
        """An epoch sees every forget portrait once."""
        return -(-self.portraits // self.settings.batch_forget_images)

    @property
    def steps(self) -> int:
        """`epochs` epochs, and `least_steps` where there are few portraits to forget."""
        return max(self.settings.epochs * self.steps_per_epoch, self.settings.least_steps)

    def run(self) -> Curve:
        """Fine-tune in place. Raises UserError if a mask matches no live tensor, TrainingFailure on NaN."""
        curve = self._train() if any(self.terms) else []
        self.finish()
        return curve

    @property
    def cost(self) -> dict[str, float | None]:
        """Median seconds of an epoch (of the steps this process made; None for fewer than two, 0 where nothing is
        trained), what was trained, peak memory of the process."""
        steps = [after - before for before, after in pairwise(self.clock)]
        trains = any(self.terms)
        return {
            "seconds_per_epoch": median(steps) * self.steps_per_epoch if steps else None if trains else 0.0,
            "trainable_parameters": float(sum(p.numel() for p in self.parameters.values())) if trains else 0.0,
            "peak_memory_mb": peak_resident() / 1e6,
        }

    def _train(self) -> Curve:
        if self.mask is not None:
            require_live(self.mask, self.parameters)
        only_tunable(self.mllm.model, self.parameters)
        shard(self.mllm, self.settings.sharding)
        trained = replace(self, parameters={name: self.mllm.model.get_parameter(name) for name in self.parameters})
        rule = Optimisation(self.steps, self.settings.learning_rate, warmup=WARMUP, decay=self.settings.decay)
        training = Training(
            trained.parameters,
            trained.gradients,
            rule,
            "unlearning",
            checkpoints=self.checkpoints,
            tracker=self.tracker,
        )
        curve = training.run()
        gather(self.mllm)
        return curve

    def gradients(self, step: int) -> dict[str, float]:
        """Fill `.grad` for one step; returns the losses to record."""
        self.clock.append(time.perf_counter())
        forget, forgetting = self._side(step, forgets=True)
        preserve, preserving = self._side(step, forgets=False)
        self._restrain(forget, masked=True)
        self._restrain(preserve, masked=self.settings.mask_on == "update")
        for name, parameter in self.parameters.items():
            found = [side[name] for side in (forget, preserve) if name in side]
            parameter.grad = sum(found[1:], start=found[0]) if found else None
        return {**forgetting, **preserving}

    @cached_property
    def _forwards(self) -> Sequence[Mapping[tuple[bool, int], list[Term]]]:
        """Terms on the same rows share a forward."""
        versions = []
        for terms in self.terms:
            shared: dict[tuple[bool, int], list[Term]] = defaultdict(list)
            for term in terms:
                shared[term.forgets, id(term.rows)].append(term)
            versions.append(shared)
        return versions

    def _side(self, step: int, *, forgets: bool) -> tuple[Gradients, dict[str, float]]:
        """Gradients and losses of all terms of one side, by name, summed over processes; tensors that a side does not
        reach are left out."""
        losses: dict[str, float] = defaultdict(float)
        epoch = step // self.steps_per_epoch
        for (side, _), terms in self._forwards[epoch % len(self.terms)].items():
            if side == forgets:
                keys = batch(terms[0].rows, self.settings.seed, step, self.steps_per_epoch, once=forgets)
                with self._attacked(terms[0].rows, keys, step) if forgets else nullcontext():
                    self._accumulate(terms, keys, losses)
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        add_up(gradients.values())
        for parameter in self.parameters.values():
            parameter.grad = None
        return gradients, total(losses)

    def _attacked(self, rows: Rows | Images, keys: Sequence[str], step: int) -> AbstractContextManager[None]:
        """The weights as a relearning attack on these rows leaves them, from the step on that `resist` says."""
        resist = self.settings.resist
        if resist is None or step < resist.after * self.steps or not isinstance(rows, Rows):
            return nullcontext()
        return relearned(self.mllm.model, rows, keys, resist.step, self.settings.micro_batch_images)

    def _accumulate(self, terms: Sequence[Term], keys: Sequence[str], losses: dict[str, float]) -> None:
        """Add the gradients of this process's part of a batch to `.grad`, a few rows at a time: losses are means over
        rows."""
        for chunk, count in own_chunks(terms[0].rows, keys, self.settings.micro_batch_images):
            share = count / len(keys)
            outputs = terms[0].rows.forward(chunk)
            values = [term.loss(outputs) for term in terms]
            torch.stack([share * term.weight * v for term, v in zip(terms, values, strict=True)]).sum().backward()
            for term, value in zip(terms, values, strict=True):
                losses[f"{term.name}_loss"] += share * float(value.detach())

    def _restrain(self, gradients: Gradients, *, masked: bool) -> None:
        """Mask, hold frozen entries, clip (Eq. 5)."""
        for name, gradient in gradients.items():
            if masked and self.mask is not None:
                gradient.mul_(share_like(self.mask.masks[name].unpack().to(gradient.device), gradient))
            if name in self.frozen_entries:
                gradient.masked_fill_(self.frozen_entries[name], 0)
        if gradients:
            clip(list(gradients.values()), self.settings.clip)


def batch(rows: Rows | Images, seed: int, step: int, steps_per_epoch: int, *, once: bool) -> list[str]:
    """The keys of a step's rows, in an order that depends on seed and step alone. once: at most once an epoch."""
    epoch, index = divmod(step, steps_per_epoch)
    rng = np.random.default_rng([seed, epoch])
    needed = (index + 1) * rows.batch
    passes = 1 if once else -(-needed // len(rows.keys))
    drawn = [key for _ in range(passes) for key in rng.permutation(rows.keys).tolist()]
    return drawn[index * rows.batch : needed]
