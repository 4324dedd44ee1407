"""The same work as one writes it with stock transformers: the plain implementation.

One right-padded row per question (per question and option in evaluation) with its own copy of the image, text losses
computed although a frozen LLM makes their gradient zero, a live teacher, a backward pass per sample for the Fisher
information. Gradients are taken for the tunable tensors only, as in ours, or, with `unlearn.scope` full, for all.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from unsee.bench import plain
from unsee.bench.ours import Statistics
from unsee.bench.workloads import Workload
from unsee.evaluation.asking import Asked
from unsee.mllm.prompts import Rendered
from unsee.mllm.rows import ImageBank, Portraits
from unsee.pruning import pruned_entries, zero_neurons
from unsee.statistics.importance import Importance
from unsee.training import Optimisation, Training, clip
from unsee.unlearning.methods import vkd
from unsee.unlearning.saliency import saliency_mask
from unsee.unlearning.trainer import batch, only_tunable

TEXT_ROWS = 32

Item = TypeVar("Item")


@dataclass(frozen=True)
class QuestionRow:
    """One question about one image; `weight` is its share in the mean over questions, then images."""

    rendered: Rendered
    image: str
    weight: float


@dataclass(frozen=True)
class OptionRow:
    """An option (ids) of the question at `place` in the list asked, after its prompt (ids)."""

    place: int
    image: str | None
    prompt: tuple[int, ...]
    option: tuple[int, ...]


class Stock:
    """Unlearning, evaluation and statistics in the plain way. Prunes the workload's model.

    batch_rows: rows with an image per forward.
    """

    def __init__(self, workload: Workload, batch_rows: int):
        self.workload, self.batch_rows = workload, batch_rows
        self.mllm = workload.mllm
        self.settings = vkd.Settings.model_validate(workload.settings.unlearn.model_dump())
        self.mllm.language_model.set_attn_implementation("sdpa")
        self.teacher = copy.deepcopy(self.mllm.model).requires_grad_(False)
        self.bank = ImageBank(self.mllm, workload.benchmark)
        self.forget, self.retain = workload.work().forget, workload.work().retain
        by_name = workload.benchmark.select(role="train", modality="qa")
        self.texts = [self.mllm.prompter.trained(q.prompt, q.answer, image=False) for q in by_name]
        self.parameters = workload.work().parameters
        forget, retain = workload.fisher.values()
        assert self.settings.mask is not None
        mask = saliency_mask(forget, [retain], self.settings.mask)
        self.salient = {name: packed.unpack() for name, packed in mask.masks.items()}
        self.frozen_entries = pruned_entries(self.mllm, workload.pruned)
        zero_neurons(self.mllm, workload.pruned)

    def gradients(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Losses and combined gradients of the first step."""
        only_tunable(self.mllm.model, self.parameters)
        losses = self._step(0)
        return losses, {name: p.grad for name, p in self.parameters.items() if p.grad is not None}

    def epoch(self) -> None:
        """One epoch of unlearning, optimiser included. Every question by name is asked once."""
        only_tunable(self.mllm.model, self.parameters)
        rule = Optimisation(self._steps, self.settings.learning_rate)
        Training(self.parameters, self._step, rule, "plain unlearning").run()

    @property
    def _steps(self) -> int:
        return -(-len(self.forget.keys) // self.settings.batch_forget_images)

    def _step(self, step: int) -> dict[str, float]:
        forget_images = batch(self.forget, self.settings.seed, step, self._steps, once=True)
        retain_images = batch(self.retain, self.settings.seed, step, self._steps, once=False)
        forgetting = self._pass(self.forget, forget_images, distilled=False)
        ascent = _take_gradients(self.parameters)
        preserving = self._pass(self.retain, retain_images, distilled=True)
        text = self._text_losses(self.texts[step % self._steps :: self._steps])
        descent = _take_gradients(self.parameters)
        self._combine({name: -self.settings.alpha * g for name, g in ascent.items()}, descent)
        return {
            "forget_loss": forgetting["loss"],
            "retain_loss": preserving["loss"],
            "vkd_loss": preserving["vkd_loss"],
            "text_loss": text,
        }

    def _pass(self, portraits: Portraits, images: Sequence[str], *, distilled: bool) -> dict[str, float]:
        """Accumulate the gradients of a batch of images, `batch_rows` rows at a time. Returns the losses."""
        parts: dict[str, float] = defaultdict(float)
        for rows in chunks(_rows(portraits, images), self.batch_rows):
            pixels = self.bank.pixels([row.image for row in rows])
            outputs = plain.row_outputs(self.mllm, [row.rendered for row in rows], pixels)
            weights = torch.tensor([row.weight for row in rows], dtype=outputs.losses.dtype)
            loss = total = (weights * outputs.losses).sum()
            if distilled and outputs.features is not None:
                distance = (weights * self._distances(outputs.features, pixels)).sum()
                total = loss + self.settings.beta * distance
                parts["vkd_loss"] += float(distance.detach())
            total.backward()
            parts["loss"] += float(loss.detach())
        return parts

    def _distances(self, features: Tensor, pixels: Tensor) -> Tensor:
        """||f - t||^2 / ||t||^2 of each row, t from the live teacher."""
        with torch.no_grad():
            teacher = torch.stack(list(self.teacher.get_image_features(pixels).pooler_output))
        return (features - teacher).square().flatten(1).sum(dim=1) / teacher.square().flatten(1).sum(dim=1)

    def _text_losses(self, texts: Sequence[Rendered]) -> float:
        """Mean loss of questions by name, its gradients accumulated: of tensors of the vision part there are none."""
        total = 0.0
        for rows in chunks(texts, TEXT_ROWS):
            loss = plain.row_outputs(self.mllm, rows, None).losses.sum() / len(texts)
            if loss.requires_grad:
                loss.backward()
            total += float(loss.detach())
        return total

    def _combine(self, forget: dict[str, Tensor], preserve: dict[str, Tensor]) -> None:
        for gradients, masked in ((forget, True), (preserve, self.settings.mask_on == "update")):
            for name, gradient in gradients.items():
                if masked:
                    gradient.mul_(self.salient[name])
                if name in self.frozen_entries:
                    gradient.masked_fill_(self.frozen_entries[name], 0)
            clip(list(gradients.values()), self.settings.clip)
        for name, gradient in forget.items():
            self.parameters[name].grad = gradient + preserve[name]

    @torch.inference_mode()
    def scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        """Scores of every option of every question, a row per option."""
        rows = [row for place, item in enumerate(asked) for row in self._options(place, item)]
        with_image, by_name = [row for row in rows if row.image], [row for row in rows if not row.image]
        found: list[list[float]] = [[] for _ in asked]
        for taken in (*chunks(with_image, self.batch_rows), *chunks(by_name, TEXT_ROWS)):
            images = [row.image for row in taken if row.image]
            pixels = self.bank.pixels(images) if images else None
            scores = plain.answer_log_probabilities(self.mllm, [(row.prompt, row.option) for row in taken], pixels)
            for row, score in zip(taken, scores, strict=True):
                found[row.place].append(float(score.mean()))
        return found

    def _options(self, place: int, item: Asked) -> list[OptionRow]:
        question, image = item.question, item.image
        rendered = self.mllm.prompter.scored(question.prompt, question.options or (), image=image is not None)
        return [OptionRow(place, image, rendered.prompt, option) for option in rendered.answers]

    def statistics(self) -> Statistics:
        """Fisher information by a backward pass per image; importance is read off in the same forward passes."""
        parameters = self.mllm.visual_parameters(None)
        only_tunable(self.mllm.model, parameters)
        self.mllm.model.zero_grad()
        squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
        images = self.forget.keys
        with self._activations() as activations:
            for image in images:
                self._pass(self.forget, [image], distilled=False)
                for name, gradient in _take_gradients(parameters).items():
                    squares[name] += gradient.square()
        self._text_losses(self.texts)
        rows = sum(len(self.forget.rows[image]) for image in images)
        fisher = {name: total / len(images) for name, total in squares.items()}
        return Statistics(fisher, {layer: total / rows for layer, total in activations.items()})

    @contextmanager
    def _activations(self) -> Iterator[Importance]:
        """Sums of mean absolute activations over rows, filled by the forward passes inside the block."""
        summed = {m.layer: torch.zeros(m.outgoing.in_features) for m in self.mllm.tower_mlps()}

        def add(layer: int) -> Callable[..., None]:
            def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                summed[layer] += inputs[0].detach().abs().mean(dim=1).sum(dim=0)

            return hook

        hooks = [m.outgoing.register_forward_pre_hook(add(m.layer)) for m in self.mllm.tower_mlps()]
        try:
            yield summed
        finally:
            for hook in hooks:
                hook.remove()


def _take_gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The accumulated gradients, which start anew."""
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None
    return gradients


def _rows(portraits: Portraits, images: Sequence[str]) -> list[QuestionRow]:
    """The images' questions, weighted so that the sum is the mean over questions, then images."""
    return [
        QuestionRow(rendered, image, 1 / (len(images) * len(portraits.rows[image])))
        for image in images
        for rendered in portraits.rows[image]
    ]


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Runs of `size` items, the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
