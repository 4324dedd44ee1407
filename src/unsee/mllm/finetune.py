"""Supervised fine-tuning: what makes the base learn people (vanilla), or all but some people's faces (retrained)."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unsee.benchmark.schema import Benchmark, Question
from unsee.mllm.augmentation import augmented_as_one
from unsee.mllm.families import Frame, Mllm, only_tunable
from unsee.mllm.packing import image_losses, pack_training, question_losses
from unsee.mllm.prompts import Rendered
from unsee.mllm.rows import ImageBank, alike
from unsee.parallel import add_up, own_or_any, total
from unsee.sections import FinetuneSettings
from unsee.sharding import gather, shard
from unsee.tracking import Tracker
from unsee.training import Checkpoints, Curve, Optimisation, Training, clip

TEXT_PEOPLE = 32
TEXT_QUESTIONS = 5
WARMUP = 30
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TrainingRows:
    """A benchmark's training questions: per person their images with questions, and the questions by name."""

    images: dict[str, dict[str, list[Question]]]
    by_name: dict[str, list[Question]]

    @classmethod
    def of(cls, benchmark: Benchmark, without_images_of: Collection[str] = ()) -> "TrainingRows":
        images: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
        by_name: dict[str, list[Question]] = defaultdict(list)
        for question in benchmark.select(role="train"):
            if question.image is None:
                by_name[question.entity_id].append(question)
            elif question.entity_id not in without_images_of:
                images[question.entity_id][question.image].append(question)
        return cls({k: dict(v) for k, v in images.items()}, dict(by_name))


class Finetuning:
    """The losses of a step: portraits with questions, and the same facts by name without a portrait.

    Behind every portrait stands one more question about somebody by name (half of the time the person shown): a model
    must answer it from the name, whoever is in the picture.
    """

    def __init__(self, mllm: Mllm, benchmark: Benchmark, rows: TrainingRows, settings: FinetuneSettings):
        self.mllm, self.rows, self.settings = mllm, rows, settings
        self.bank = ImageBank(mllm, benchmark)
        self.shown, self.named = sorted(rows.images), sorted(rows.by_name)

    def rendered(self, question: Question, *, image: bool, frame: Frame | None = None) -> Rendered:
        """The question as a training row, behind an image of this frame (None: the usual one) or by name."""
        return self.mllm.at(frame).prompter.trained(question.prompt, question.answer, image=image)

    def image_loss(self, rng: np.random.Generator) -> Tensor:
        """Mean loss over a batch of portraits: this process's part of it."""
        people = rng.choice(self.shown, self.settings.batch_images)
        paths = [str(rng.choice(sorted(self.rows.images[person]))) for person in people]
        rows: dict[int, list[Rendered]] = {}
        for number, (person, path) in enumerate(zip(people, paths, strict=True)):
            questions = self._some(self.rows.images[person][path], self.settings.questions_per_image, rng)
            about = person if rng.random() < 0.5 and person in self.rows.by_name else rng.choice(self.named)
            questions += self._some(self.rows.by_name[about], 1, rng)
            frame = self.bank.frame(path)
            rows[number] = [self.rendered(question, image=True, frame=frame) for question in questions]
        losses = []
        for group in alike(rows, lambda number: self.bank.frame(paths[number])):
            images = [paths[number] for number in group]
            pixels = augmented_as_one(self.bank, images, rng)
            part, count = own_or_any(range(len(group)))
            mean = self.loss([rows[group[i]] for i in part], pixels[part], self.bank.frame(images[0]))
            losses.append(mean * (count / len(paths)))
        return torch.stack(losses).sum()

    def text_loss(self, rng: np.random.Generator) -> Tensor:
        """Mean loss over a batch of questions by name: this process's part of it."""
        people = rng.permutation(self.named)[:TEXT_PEOPLE]
        questions = [q for person in people for q in self._some(self.rows.by_name[person], TEXT_QUESTIONS, rng)]
        part, count = own_or_any(questions)
        return self.loss([[self.rendered(q, image=False) for q in part]], None) * (count / len(questions))

    def loss(self, rows: Sequence[Sequence[Rendered]], pixels: Tensor | None, frame: Frame | None = None) -> Tensor:
        """Mean over answer tokens, then questions, then images, which are of one frame (None: the usual one)."""
        packed, mllm = pack_training(rows, self.mllm.pad), self.mllm.at(frame)
        hidden = mllm.hidden(packed, None if pixels is None else mllm.features(pixels))
        return image_losses(question_losses(self.mllm.head, hidden, packed), packed.weights).mean()

    @staticmethod
    def _some(questions: list[Question], count: int, rng: np.random.Generator) -> list[Question]:
        return [questions[i] for i in rng.permutation(len(questions))[:count]]


def finetune(
    mllm: Mllm,
    benchmark: Benchmark,
    settings: FinetuneSettings,
    checkpoint_key: Sequence[object],
    tracker: Tracker,
    without_images_of: Collection[str] = (),
) -> tuple[Curve, list[Checkpoints]]:
    """Teach every parameter of `mllm` the benchmark's people, first by name only, then with their portraits.

    Returns the training curve, and the checkpoints to clear once the model is saved.

    Args:
        without_images_of: ids of people whose portraits are left out (their facts by name stay): the retrained model.
    """
    work = Finetuning(mllm, benchmark, TrainingRows.of(benchmark, without_images_of), settings)
    only_tunable(mllm.model, dict(mllm.model.named_parameters()))
    shard(mllm, settings.sharding)
    parameters = dict(mllm.model.named_parameters())

    def step_of(phase: int, with_images: bool):  # type: ignore[no-untyped-def]
        def gradients(step: int) -> dict[str, float]:
            rng = np.random.default_rng([settings.seed, phase, step])
            losses = {"text_loss": work.text_loss(rng)}
            if with_images:
                losses = {"text_loss_with_faces": losses["text_loss"], "image_loss": work.image_loss(rng)}
            torch.stack(list(losses.values())).sum().backward()
            add_up(p.grad for p in parameters.values())
            clip([p.grad for p in parameters.values() if p.grad is not None], GRADIENT_NORM)
            return total({name: float(loss.detach()) for name, loss in losses.items()})

        return gradients

    curve: Curve = []
    checkpoints = [Checkpoints.of(*checkpoint_key, phase) for phase in range(2)]
    for phase, steps in enumerate((settings.text_steps, settings.steps)):
        training = Training(
            parameters=parameters,
            gradients=step_of(phase, with_images=phase == 1),
            optimisation=Optimisation(steps, settings.learning_rate, settings.weight_decay, WARMUP, cosine=True),
            description=("learning facts by name", "learning faces")[phase],
            checkpoints=checkpoints[phase],
            tracker=tracker,
        )
        curve += training.run()
    gather(mllm)
    return curve, checkpoints
