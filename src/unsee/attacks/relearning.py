"""The relearning attack (Section 4.5): fine-tune a model on a share of the forget portraits and see what comes back.

Every model gets the same budget: all its weights, or those of some parts (or low-rank additions to them, where an
attacker has one card), one learning rate, the same portraits in the same order. What any model learns from these
portraits is told by attacking the retrained model, which never saw them: the control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm import lora
from unsee.mllm.families import Mllm, only_tunable
from unsee.mllm.rows import ImageBank, Portraits, mean_loss
from unsee.parallel import add_up, own_chunks, total
from unsee.sections import RelearnSettings
from unsee.sharding import shard
from unsee.training import Optimisation, Training, clip

Sampling = Literal["person", "image"]
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Budget:
    """The portraits an attacker has, and whom or what they do not cover."""

    sampling: Sampling
    percent: int
    images: tuple[str, ...]
    people: frozenset[str]

    def covers(self, entity_id: str, image: str | None) -> bool:
        """Whether the attacker used this person (person sampling) or this portrait (image sampling)."""
        return entity_id in self.people if self.sampling == "person" else image in self.images


def draw_budget(portraits: Mapping[str, Sequence[str]], sampling: Sampling, percent: int, seed: int) -> Budget | str:
    """A share of the people with all their portraits, or of every person's portraits; or the reason why there is none.

    Args:
        portraits: person -> paths of their training portraits.
    """
    rng = np.random.default_rng([seed, percent])
    if sampling == "person":
        count = round(len(portraits) * percent / 100)
        if count == 0 or count == len(portraits):
            return f"{percent} % of {len(portraits)} forget people is {count or 'nobody'}: too few people"
        chosen = sorted(rng.choice(sorted(portraits), count, replace=False).tolist())
        return Budget(sampling, percent, tuple(i for p in chosen for i in portraits[p]), frozenset(chosen))
    in_all = sum(map(len, portraits.values()))
    count = round(in_all * percent / 100)
    if count == 0 or count == in_all:
        return f"{percent} % of {in_all} forget portraits is {count or 'none'}: too few portraits for this sampling"
    drawn = tuple(_spread(portraits, count, rng))
    return Budget(sampling, percent, drawn, frozenset(p for p, images in portraits.items() if {*images} & {*drawn}))


def _spread(portraits: Mapping[str, Sequence[str]], count: int, rng: np.random.Generator) -> list[str]:
    """`count` portraits, drawn from people in turn, so that everyone's share is equal up to one portrait."""
    shuffled = {person: rng.permutation(portraits[person]).tolist() for person in sorted(portraits)}
    order = rng.permutation(list(shuffled)).tolist()
    drawn: list[str] = []
    while len(drawn) < count:
        for person in order:
            if shuffled[person] and len(drawn) < count:
                drawn.append(shuffled[person].pop())
    return sorted(drawn)


class RelearningAttack:
    """Attacks copies of one model; the model itself is put back after each attack."""

    def __init__(self, mllm: Mllm, benchmark: Benchmark, request: ForgetRequest, settings: RelearnSettings):
        self.mllm, self.settings = mllm, settings
        self.bank = ImageBank(mllm, benchmark)
        self.portraits = Portraits(mllm, self.bank, benchmark, request.forget)
        batch = settings.evaluation_batch_images
        self.examiner = Examiner(mllm, self.bank.pixels, batch, settings.choice, self.bank.frame)
        evaluated = benchmark.select(role="eval", task="classification")
        self.asked = [Asked(q, q.modality, q.image) for q in evaluated if q.entity_id in request.forget]
        only_tunable(mllm.model, self._trained())  # before: sharding fixes the dtypes
        shard(mllm, settings.sharding)
        self.parameters = {name: p for name, p in mllm.model.named_parameters() if p.requires_grad}
        self.original = {name: p.detach().clone() for name, p in self.parameters.items()}

    def _trained(self) -> dict[str, nn.Parameter]:
        """What an attacker trains, by name."""
        named = dict(self.mllm.model.named_parameters())
        if self.settings.rank is not None:
            without_head = self.mllm.model.base_model
            lora.attach(without_head, self.settings.rank, self.settings.rank, self.settings.seed)
            named = lora.additions(self.mllm)
        parts = self.mllm.parts()
        wanted = {name for part in self.settings.parts for name in parts[part]}
        return {name: parameter for name, parameter in named.items() if name in wanted}

    def run(self, budget: Budget) -> dict[str, Any]:
        """Accuracies after each epoch from 0 (before) on."""
        parameters = self.parameters
        curve = [self._measure(0, budget)]
        steps = -(-len(budget.images) // self.settings.batch_images)
        done = 0

        def gradients(step: int) -> dict[str, float]:
            epoch, index = divmod(step, steps)
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(budget.images).tolist()
            size = self.settings.batch_images
            loss = self._loss(order[index * size : (index + 1) * size])
            loss.backward()
            add_up(p.grad for p in parameters.values())
            clip([p.grad for p in parameters.values() if p.grad is not None], GRADIENT_NORM)
            return total({"loss": float(loss.detach())})

        def after_step() -> None:
            nonlocal done
            done += 1
            if done % steps == 0:
                curve.append(self._measure(done // steps, budget))

        rule = Optimisation(self.settings.epochs * steps, self.settings.learning_rate, betas=(0.9, 0.999))
        Training(parameters, gradients, rule, f"relearning {budget.percent} %", after_step).run()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.original[name])
        return result(curve, budget)

    def _loss(self, images: Sequence[str]) -> Tensor:
        """Mean loss over a batch of portraits: this process's part of it."""
        chunks = own_chunks(self.portraits, images, len(images))
        losses = [mean_loss(self.portraits.forward(chunk)) * (count / len(images)) for chunk, count in chunks]
        return torch.stack(losses).sum()

    def _measure(self, epoch: int, budget: Budget) -> dict[str, float | None]:
        right = self.examiner.right(self.asked)

        def accuracy(wanted: Sequence[bool]) -> float | None:
            chosen = [r for r, w in zip(right, wanted, strict=True) if w]
            return sum(chosen) / len(chosen) if chosen else None

        return {
            "epoch": epoch,
            "forget/vqa/accuracy": accuracy([a.question.view == "train" for a in self.asked]),
            "forget/vqa/heldout_accuracy": accuracy([a.question.view == "heldout" for a in self.asked]),
            "forget/qa/accuracy": accuracy([a.modality == "qa" for a in self.asked]),
            "unseen": accuracy(
                [a.modality == "vqa" and not budget.covers(a.question.entity_id, a.image) for a in self.asked]
            ),
        }


def result(curve: Sequence[Mapping[str, float | None]], budget: Budget) -> dict[str, Any]:
    """before, after, gap (the paper's AG) on forget VQA, the gap on what the attacker did not use, and the curve."""

    def gap(name: str) -> float | None:
        before, after = curve[0][name], curve[-1][name]
        return None if before is None or after is None else after - before

    return {
        "before": curve[0]["forget/vqa/accuracy"],
        "after": curve[-1]["forget/vqa/accuracy"],
        "gap": gap("forget/vqa/accuracy"),
        "gap_unseen": gap("unseen"),
        "reason": None,
        "used": {"people": len(budget.people), "images": len(budget.images)},
        "curve": list(curve),
    }


def no_result(reason: str) -> dict[str, Any]:
    """What is written where an attack was not possible."""
    empty = dict.fromkeys(("before", "after", "gap", "gap_unseen"))
    return {**empty, "reason": reason, "used": {"people": 0, "images": 0}, "curve": []}
