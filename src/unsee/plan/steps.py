"""Every step of a run as it is, on a model without weights and a few of the benchmark's people."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np
import torch

from unsee.attacks.relearning import RelearningAttack, draw_budget
from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.compute import Compute
from unsee.evaluation.asking import Examiner
from unsee.evaluation.examination import examination, examine
from unsee.mllm import lora
from unsee.mllm.families import Mllm
from unsee.mllm.finetune import finetune
from unsee.mllm.rows import ImageBank, Portraits
from unsee.plan.data import few
from unsee.plan.models import ModelPlan
from unsee.plan.tracking import Peak, tracked
from unsee.sections import LoraSettings
from unsee.settings import Settings
from unsee.statistics.activation import mean_absolute_activation
from unsee.steps.collect_statistics import fisher_of_portraits
from unsee.tracking import NoTracker
from unsee.unlearning.method import Work, find
from unsee.unlearning.saliency import BitMask, SaliencyMask
from unsee.unlearning.trainer import Unlearning

STEPS = 2
"""From the second step on an optimiser has its state."""


@dataclass(frozen=True)
class Measured:
    """What one step came to. kept: bytes moved to main memory, of unlearning for each image. flops, image_tokens: of an
    image's share of an epoch's work, image tokens that the LLM reads. trained: numbers that an optimiser changes."""

    peak: Peak
    kept: int
    flops: int
    image_tokens: int
    trained: int


Prepare = Callable[[Mllm], Callable[[], object]]
"""What a step does once; what it returns does the work of some images."""


@dataclass(frozen=True)
class Steps:
    """A run to be planned: settings, the whole benchmark, and the model."""

    settings: Settings
    benchmark: Benchmark
    request: ForgetRequest
    model: ModelPlan

    def build_vanilla(self, compute: Compute) -> Measured:
        """A step of fine-tuning, with its optimiser."""
        settings = self.settings.vanilla
        if isinstance(settings, LoraSettings):
            sample, _ = few(self.benchmark, self.request, (1, settings.batch_questions))
            settings = settings.model_copy(update={"epochs": STEPS, "warmup_epochs": 0})
            asked = sample.select(role="train", modality="vqa")[: settings.batch_questions]
            sample = replace(sample, questions=tuple(asked))
            images = STEPS * len(asked)
            return self._measured(
                compute, lambda mllm: partial(lora.finetune, mllm, sample, settings, (), NoTracker()), images
            )
        sample, _ = few(self.benchmark, self.request, (settings.batch_images, settings.batch_images))
        short = settings.model_copy(update={"text_steps": 0, "steps": STEPS})
        images = STEPS * settings.batch_images
        return self._measured(compute, lambda mllm: partial(finetune, mllm, sample, short, (), NoTracker()), images)

    def collect_statistics(self, compute: Compute) -> Measured:
        """A batch, its activations and its Fisher information."""
        settings = self.settings.statistics
        sample, request = few(self.benchmark, self.request, (settings.batch_images, 1))

        def collect(mllm: Mllm) -> None:
            bank = ImageBank(mllm, sample)
            portraits = Portraits(mllm, bank, sample, request.forget)
            mean_absolute_activation(mllm, bank.pixels, portraits.keys, settings.batch_images, bank.frame)
            fisher_of_portraits(mllm, portraits, settings, "forget_vqa")

        return self._measured(compute, lambda mllm: partial(collect, mllm), settings.batch_images)

    def unlearn(self, compute: Compute) -> Measured:
        """Preparation, and two steps of the trainer, with as many portraits as go through the model at once."""
        whole = self.settings.unlearn
        share = min(1.0, whole.micro_batch_images / whole.batch_forget_images)
        counts = {n: ceil(v * share) for n, v in whole.model_dump().items() if n.startswith("batch_") or n == "blends"}
        settings = whole.model_copy(update={**counts, "epochs": 1, "least_steps": STEPS, "versions": 1})
        images = settings.batch_forget_images, settings.batch_retain_images
        sample, request = few(self.benchmark, self.request, images)

        def prepare(mllm: Mllm) -> Callable[[], object]:
            mlps = mllm.tower_mlps(self.settings.prune.layers)
            neurons = {mlp.layer: torch.ones(mlp.outgoing.in_features, dtype=torch.bool) for mlp in mlps}
            work = Work(
                settings=settings, mllm=mllm, bank=ImageBank(mllm, sample), benchmark=sample, request=request,
                pruned=neurons, pruning=self.settings.prune, fisher={},
            )  # fmt: skip
            method = find(settings.method)(settings, work)
            masked = settings.model_dump().get("mask") is not None
            return Unlearning(
                settings=settings,
                mllm=mllm,
                terms=[method.terms(work)],
                portraits=len(work.forget.keys),
                parameters=work.parameters,
                finish=lambda: None,
                pruned={},
                mask=_mask(work) if masked else None,
                frozen_entries=method.before(),
            ).run

        found = self._measured(compute, prepare, STEPS * settings.batch_forget_images)
        shown = {q.image for q in sample.select(role="train", modality="vqa")}
        return replace(found, kept=found.kept // len(shown))

    def evaluate(self, compute: Compute) -> Measured:
        """A batch of images, their options and answers."""
        settings = self.settings.evaluation
        sample, request = few(self.benchmark, self.request, (settings.batch_images, 1))

        def evaluate(mllm: Mllm) -> None:
            bank = ImageBank(mllm, sample)
            examiner = Examiner(mllm, bank.pixels, settings.batch_images, settings.choice, bank.frame)
            asked = examination(sample, request)
            shown = list(dict.fromkeys(a.image for a in asked if a.image))[: settings.batch_images]
            chosen = [a for a in asked if a.image in shown]
            examine(examiner, chosen, request, generate=settings.generate)

        return self._measured(compute, lambda mllm: partial(evaluate, mllm), settings.batch_images)

    def relearn_attack(self, compute: Compute) -> Measured:
        """Two steps of an attack, and what it is measured by."""
        settings = self.settings.relearn.model_copy(update={"epochs": STEPS})
        sample, request = few(self.benchmark, self.request, (2 * settings.batch_images, 1))

        def attack(mllm: Mllm) -> None:
            attack = RelearningAttack(mllm, sample, request, settings)
            budget = draw_budget(attack.portraits.by_person, "image", 50, 0)
            if not isinstance(budget, str):
                attack.run(budget)

        return self._measured(compute, lambda mllm: partial(attack, mllm), STEPS * settings.batch_images)

    def _measured(self, compute: Compute, prepare: Prepare, images: int) -> Measured:
        mllm, model = self.model.make(compute), self.model
        with tracked(mllm.model) as (tracker, counter):
            work = prepare(mllm)
            flops, read = counter.get_total_flops(), model.image_tokens_read
            work()
        flops, read = counter.get_total_flops() - flops, model.image_tokens_read - read
        return Measured(tracker.peak, tracker.most_kept, flops // images, read // images, tracker.trained)


def _mask(work: Work) -> SaliencyMask:
    """Of the right sizes."""
    bits = {n: BitMask(np.zeros(-(-p.numel() // 8), np.uint8), p.shape) for n, p in work.parameters.items()}
    return SaliencyMask(bits, 0.0)
