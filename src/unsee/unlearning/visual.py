"""Portraits and their questions through a model whose early tower layers and LLM are frozen.

What cannot change is computed once: pixels, the output of the frozen early tower layers, and, for the caller that asks
for it, the vanilla model's features.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from unsee.benchmark.schema import Benchmark
from unsee.mllm.families import Mllm
from unsee.mllm.finetune import ImageBank, augment
from unsee.mllm.packing import answer_tokens, image_losses, pack_training, question_losses
from unsee.mllm.prompts import Rendered
from unsee.progress import progress

Pixels = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Outputs:
    """One packed forward of B images with up to Q questions each.

    features: projector output [B, N, D]. losses: mean cross-entropy per answer token [B, Q], nats. answer_tokens:
    [B, Q]. weights: [B, Q], 1 for a question and 0 for padding.
    """

    images: tuple[str, ...]
    features: Tensor
    losses: Tensor
    answer_tokens: Tensor
    weights: Tensor

    @property
    def answer_losses(self) -> Tensor:
        """-log p(answer | image, question), [B, Q]: summed over the answer's tokens, nats."""
        return self.losses * self.answer_tokens


class Portraits:
    """All training portraits of some people, with every training question about each."""

    def __init__(self, mllm: Mllm, bank: ImageBank, benchmark: Benchmark, people: Collection[str]):
        self.mllm, self.bank = mllm, bank
        rows: dict[str, list[Rendered]] = defaultdict(list)
        by_person: dict[str, dict[str, None]] = defaultdict(dict)
        for question in benchmark.select(role="train", modality="vqa"):
            if question.entity_id in people and question.image is not None:
                by_person[question.entity_id][question.image] = None
                rows[question.image].append(mllm.prompter.trained(question.prompt, question.answer, image=True))
        self.rows: Mapping[str, list[Rendered]] = dict(rows)
        self.by_person = {person: tuple(images) for person, images in by_person.items()}

    @property
    def images(self) -> list[str]:
        """Paths in the benchmark, in its order."""
        return list(self.rows)

    def forward(self, images: Sequence[str], features: Tensor) -> Outputs:
        """The frozen or tuned LLM over the images' questions, given their features [B, N, D]."""
        packed = pack_training([self.rows[image] for image in images], self.mllm.pad)
        losses = question_losses(self.mllm.head, self.mllm.hidden(packed, features), packed)
        return Outputs(tuple(images), features, losses, answer_tokens(packed), packed.weights)


class FrozenPrefix:
    """Features of images, from cached outputs of the tower layers before `start`.

    Exact as long as those layers do not change. pixels: image paths -> float32 [B, 3, H, W], the same at every call.
    """

    def __init__(self, mllm: Mllm, pixels: Pixels, start: int):
        self.mllm, self.pixels, self.start = mllm, pixels, start
        self._cache: dict[str, Tensor] = {}

    @torch.no_grad()
    def fill(self, images: Sequence[str], batch: int) -> None:
        """Run the frozen layers over images not seen before."""
        missing = [image for image in dict.fromkeys(images) if image not in self._cache]
        for start in progress(range(0, len(missing), batch), "frozen layers"):
            chunk = missing[start : start + batch]
            hidden = self.mllm.run_layers(self.mllm.embed(self.pixels(chunk)), 0, self.start)
            self._cache.update(zip(chunk, hidden, strict=True))

    def features(self, images: Sequence[str]) -> Tensor:
        """v^e [B, N, D] through the layers from `start` on, as they are now."""
        hidden = torch.stack([self._cache[image] for image in images])
        return self.mllm.project(self.mllm.run_layers(hidden, self.start))

    @torch.no_grad()
    def snapshot(self, images: Sequence[str], batch: int) -> dict[str, Tensor]:
        """Features of every image as the model is now, [N, D] each: the teacher's, taken before unlearning."""
        chunks = [images[start : start + batch] for start in range(0, len(images), batch)]
        return {
            image: features
            for chunk in progress(chunks, "the teacher's features")
            for image, features in zip(chunk, self.features(chunk), strict=True)
        }


def augmented(bank: ImageBank, seed: int, version: int) -> Pixels:
    """The portraits as they are (version 0), or each shifted and tinted a little, in the same way at every call."""
    if version == 0:
        return bank.pixels

    def pixels(images: Sequence[str]) -> Tensor:
        generators = [np.random.default_rng([seed, version, crc32(image.encode())]) for image in images]
        return torch.cat([augment(bank.pixels([i]), rng) for i, rng in zip(images, generators, strict=True)])

    return pixels


def mean_loss(outputs: Outputs) -> Tensor:
    """Mean over answer tokens, then questions, then images (METHODS): a scalar, nats."""
    return image_losses(outputs.losses, outputs.weights).mean()
