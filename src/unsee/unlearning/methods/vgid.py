"""Visual-noise guided in-context distillation: imitate vanilla as it answers when it cannot see and may not say.

The teacher is the frozen vanilla model on a noised portrait with an instruction before the question; both are there
(the public release ships an empty instruction and replaces the portrait by uniform noise).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from unsee.benchmark.schema import Question
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm.rows import Pixels, Portraits, alike, frozen_batch, instructed, seeing
from unsee.sections import UnlearnSettings
from unsee.unlearning.method import Method, Term, Work
from unsee.unlearning.references import kl_term


class Settings(UnlearnSettings):
    """instruction: put before the question, `{name}` is the person's name; empty for none.

    noise: Gaussian noise of `noise_level` standard deviations of the portrait's normalised pixels is added; or the
    portrait is replaced by uniform noise in their range; or none. draws: how many noised versions of a portrait the
    teacher averages over.
    """

    instruction: str = "You do not know who this is."
    noise: Literal["gaussian", "uniform", "none"] = "gaussian"
    noise_level: float = Field(default=1.0, gt=0)
    draws: PositiveInt = 4
    forget_weight: float = Field(default=1.0, gt=0)
    retain_weight: float = Field(default=1.0, gt=0)

    @field_validator("instruction")
    @classmethod
    def _only_names(cls, instruction: str) -> str:
        if {"{", "}"} & set(instruction.replace("{name}", "")):
            raise ValueError("nothing but {name} may stand in braces")
        return instruction


class Vgid(Method[Settings]):
    """a * KL(teacher || M) on D_f + b * KL(M0 || M) on D_r, teacher-forced on the benchmark's answers."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        s, head = self.settings, self.work.vanilla_head
        forget = kl_term("forget", work.forget, *self.teachers(work), head=head, weight=s.forget_weight, forgets=True)
        kept = work.preserved.items()
        return [forget, *(kl_term(name, rows, rows, head=head, weight=s.retain_weight) for name, rows in kept)]

    def teachers(self, work: Work) -> list[Portraits]:
        """The forget portraits as the teacher meets them, once per draw of the noise."""
        draws = self.settings.draws if self.settings.noise != "none" else 1
        return [self._teacher(work, self._pixels(work, draw)) for draw in range(draws)]

    def _teacher(self, work: Work, pixels: Pixels) -> Portraits:
        people, instruction = work.request.forget, self.settings.instruction
        see = seeing(work.mllm, pixels, work.bank.frame)
        return Portraits(work.mllm, work.bank, work.benchmark, people, see, instruction=instruction)

    def _pixels(self, work: Work, draw: int) -> Pixels:
        """The portraits with noise of their own, another at every look."""
        generator = torch.Generator().manual_seed(self.settings.seed + draw)
        return lambda images: torch.stack([self._noised(portrait, generator) for portrait in work.pixels(images)])

    def _noised(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """One portrait [3, H, W] -> the same shape."""
        if self.settings.noise == "none":
            return pixels
        if self.settings.noise == "uniform":
            low, high = pixels.amin(), pixels.amax()
            return low + (high - low) * torch.rand(pixels.shape, generator=generator)
        return pixels + self.settings.noise_level * pixels.std() * torch.randn(pixels.shape, generator=generator)

    def told(self) -> Mapping[str, float]:
        """How often the teacher still knows a forgotten person's facts: as it is, and without its interventions."""
        left_out: dict[str, dict[str, str]] = {
            "both": {},
            "noise": {"instruction": ""},
            "instruction": {"noise": "none"},
            "neither": {"noise": "none", "instruction": ""},
        }
        asked = self.work.benchmark.select(role="eval", modality="vqa", view="train", task="classification")
        about = [question for question in asked if question.entity_id in self.work.request.forget]
        if not about:
            return {}
        teachers = {name: self.settings.model_copy(update=changes) for name, changes in left_out.items()}
        return {f"teacher_accuracy/{name}": Vgid(s, self.work)._accuracy(about) for name, s in teachers.items()}

    def _accuracy(self, questions: Sequence[Question]) -> float:
        """With the first draw of the noise, the same whichever process looks at which portrait."""
        asked = [
            Asked(instructed(question, self.settings.instruction), "vqa", question.image) for question in questions
        ]
        noised, frame = self._pixels(self.work, 0), self.work.bank.frame
        images = dict.fromkeys(question.image for question in questions if question.image)
        shown = {image: noised([image])[0] for alike_images in alike(images, frame) for image in alike_images}

        def pixels(wanted: Sequence[str]) -> Tensor:
            return torch.stack([shown[image] for image in wanted])

        return fmean(Examiner(self.work.mllm, pixels, frozen_batch(self.work.mllm), frame=frame).right(asked))
