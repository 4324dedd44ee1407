"""Every step of a run as it is, on a model without weights and a few of the benchmark's people."""

from collections.abc import Callable, Collection
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from unsee.attacks.relearning import RelearningAttack, draw_budget
from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.compute import Compute
from unsee.evaluation.asking import Examiner
from unsee.evaluation.examination import examination, examine
from unsee.mllm import lora
from unsee.mllm.families import Mllm
from unsee.mllm.finetune import finetune
from unsee.mllm.rows import ImageBank, Portraits, frozen_batch, in_main_memory
from unsee.plan.data import few
from unsee.plan.models import ModelPlan
from unsee.plan.tracking import Peak, Tracker, tracked
from unsee.sections import LoraSettings, ThresholdSettings, UnlearnSettings
from unsee.settings import Settings
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.fisher import Fisher
from unsee.steps.collect_statistics import fisher_of_portraits
from unsee.steps.unlearn import QUESTION_SETS
from unsee.tracking import NoTracker
from unsee.unlearning.method import Work, find
from unsee.unlearning.saliency import BitMask, SaliencyMask
from unsee.unlearning.trainer import Unlearning

STEPS = 2
"""From the second step on an optimiser has its state."""


@dataclass(frozen=True)
class Measured:
    """What one step came to. kept: bytes of main memory for each image of unlearning. beside: for all images, and not
    in the peak. flops, image_tokens: of an image's share of an epoch's work, image tokens that the LLM reads. trained:
    numbers that an optimiser changes."""

    peak: Peak
    kept: int
    beside: int
    flops: int
    image_tokens: int
    trained: int


Prepare = Callable[[Mllm, Tracker], Callable[[], object]]
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
                compute, lambda mllm, _: partial(lora.finetune, mllm, sample, settings, (), NoTracker()), images
            )
        sample, _ = few(self.benchmark, self.request, (settings.batch_images, settings.batch_images))
        short = settings.model_copy(update={"text_steps": 0, "steps": STEPS})
        images = STEPS * settings.batch_images
        return self._measured(compute, lambda mllm, _: partial(finetune, mllm, sample, short, (), NoTracker()), images)

    def collect_statistics(self, compute: Compute) -> Measured:
        """A batch, its activations and its Fisher information, when those of the other set are in main memory."""
        settings = self.settings.statistics
        sample, request = few(self.benchmark, self.request, (settings.batch_images, 1))

        def collect(mllm: Mllm) -> None:
            bank = ImageBank(mllm, sample, kept=0)
            other, portraits = (Portraits(mllm, bank, sample, of) for of in (request.retain, request.forget))
            for one in (other, portraits):
                mean_absolute_activation(mllm, bank.pixels, one.keys, settings.batch_images, bank.frame)
            kept = [in_main_memory(t) for t in fisher_of_portraits(mllm, other, settings, "retain_vqa").values()]
            fisher_of_portraits(mllm, portraits, settings, "forget_vqa")
            kept.clear()

        found = self._measured(compute, lambda mllm, _: partial(collect, mllm), trained_images(sample, sample.entities))
        return replace(found, kept=0, beside=found.kept)

    def unlearn(self, compute: Compute) -> Measured:
        """Preparation, with as many images as go through frozen layers at once, and two steps of the trainer, with as
        many portraits as go through the model at once."""
        whole = self.settings.unlearn
        share = min(1.0, whole.micro_batch_images / whole.batch_forget_images)
        counts = {n: ceil(v * share) for n, v in whole.model_dump().items() if n.startswith("batch_") or n == "blends"}
        settings = whole.model_copy(update={**counts, "epochs": 1, "least_steps": STEPS, "versions": 1})
        at_once = frozen_batch(self.model.make(compute))
        batches = settings.batch_forget_images, settings.batch_retain_images
        sample, request = few(self.benchmark, self.request, [max(batch, at_once) for batch in batches])
        one_each, _ = few(sample, request, (1, 1))
        stored = compute.device != "cpu" and settings.scope == "vision"

        def prepare(mllm: Mllm, tracker: Tracker) -> Callable[[], object]:
            with tracker.aside() if stored else nullcontext():
                work = self._work(settings, mllm, sample, request)
                mask = find(settings.method)(settings, replace(work, benchmark=one_each)).mask()
            method = find(settings.method)(settings, work)
            return Unlearning(
                settings=settings,
                mllm=mllm,
                terms=[method.terms(work)],
                portraits=settings.batch_forget_images,  # of an epoch: each has one step
                parameters=work.parameters,
                finish=lambda: None,
                pruned={},
                mask=mask,
                frozen_entries=method.before(),
            ).run

        forgotten = min(settings.batch_forget_images, trained_images(sample, request.forget))
        found = self._measured(compute, prepare, STEPS * forgotten)
        return replace(found, kept=found.kept // trained_images(sample, sample.entities))

    def _work(self, settings: UnlearnSettings, mllm: Mllm, sample: Benchmark, request: ForgetRequest) -> Work:
        """What a method works on; Fisher information is there where a mask is chosen by what was stored."""
        mlps = mllm.tower_mlps(self.settings.prune.layers)
        work = _Work(
            settings=settings,
            mllm=mllm,
            bank=ImageBank(mllm, sample, kept=0),
            benchmark=sample,
            request=request,
            pruned={mlp.layer: torch.ones(mlp.outgoing.in_features, dtype=torch.bool) for mlp in mlps},
            pruning=self.settings.prune,
            fisher={},
            fisher_unit=self.settings.statistics.fisher_unit,
        )
        if settings.scope == "full" or settings.model_dump().get("mask") is None:
            return work

        def stored() -> Fisher:
            return {name: torch.zeros_like(p, dtype=torch.float32) for name, p in work.parameters.items()}

        return replace(work, fisher={name: stored() for name in QUESTION_SETS})

    def evaluate(self, compute: Compute) -> Measured:
        """A batch of images, their options and answers."""
        settings = self.settings.evaluation
        sample, request = few(self.benchmark, self.request, (settings.batch_images, 1))

        asked = examination(sample, request)
        shown = list(dict.fromkeys(a.image for a in asked if a.image))[: settings.batch_images]

        def evaluate(mllm: Mllm) -> None:
            bank = ImageBank(mllm, sample, kept=0)
            examiner = _Examiner(mllm, bank.pixels, settings.batch_images, settings.choice, bank.frame)
            examine(examiner, [a for a in asked if a.image in shown], request, generate=settings.generate)

        return self._measured(compute, lambda mllm, _: partial(evaluate, mllm), max(1, len(shown)))

    def relearn_attack(self, compute: Compute) -> Measured:
        """Two steps of an attack, and what it is measured by."""
        settings = self.settings.relearn.model_copy(update={"epochs": STEPS})
        sample, request = few(self.benchmark, self.request, (2 * settings.batch_images, 1))

        def attack(mllm: Mllm) -> None:
            attack = RelearningAttack(mllm, sample, request, settings)
            budget = draw_budget(attack.portraits.by_person, "image", 50, 0)
            if not isinstance(budget, str):
                attack.run(budget)

        relearned = max(1, round(trained_images(sample, request.forget) / 2))
        return self._measured(compute, lambda mllm, _: partial(attack, mllm), STEPS * relearned)

    def _measured(self, compute: Compute, prepare: Prepare, images: int) -> Measured:
        mllm, model = self.model.make(compute), self.model
        with tracked(mllm.model) as (tracker, counter):
            work = prepare(mllm, tracker)
            flops, read = counter.get_total_flops(), model.image_tokens_read
            work()
        flops, read = counter.get_total_flops() - flops, model.image_tokens_read - read
        share = flops // images, read // images
        return Measured(tracker.peak, tracker.most_kept, tracker.beside, *share, tracker.trained)


class _Examiner(Examiner):
    """Answers that are written alone are as long as they may be: no token without contents ends one."""

    def _alone(self, ids: tuple[int, ...], image: str | None, longest: int) -> str:
        model, ending = self.mllm.model, StoppingCriteriaList([_Longest(longest)])
        model.generate = partial(type(model).generate, model, stopping_criteria=ending)
        with suppress(_Written):
            super()._alone(ids, image, longest)
        return ""


class _Written(BaseException):
    """Ends transformers' generation, which would ask tokens whether it is over."""


class _Longest(StoppingCriteria):
    def __init__(self, tokens: int):
        self.left = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        self.left -= 1
        if not self.left:
            raise _Written
        return torch.zeros_like(input_ids[:, 0], dtype=torch.bool)


class _Work(Work):
    """Chooses its mask as any other, of the right sizes."""

    def mask(self, threshold: ThresholdSettings) -> SaliencyMask:
        shapes = {name: chosen.shape for name, chosen in self.salient(threshold).chosen.items()}
        return SaliencyMask({n: BitMask(np.zeros(-(-s.numel() // 8), np.uint8), s) for n, s in shapes.items()}, 0.0)


def trained_images(benchmark: Benchmark, people: Collection[str]) -> int:
    """How many images of these people it trains questions about."""
    trained = benchmark.select(role="train", modality="vqa")
    return len({question.image for question in trained if question.entity_id in people})
