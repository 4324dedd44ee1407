"""What goes through a model whole: portraits with their questions, and the same facts asked by name."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from cachetools import LRUCache, cached
from torch import Tensor

from unsee.benchmark.schema import Benchmark, Question
from unsee.mllm.families import Frame, Mllm
from unsee.mllm.packing import Packed, answer_logits, answer_tokens, image_losses, pack_training, question_means
from unsee.mllm.prompts import Rendered
from unsee.progress import progress

Pixels = Callable[[Sequence[str]], Tensor]
"""Image paths of one frame -> float32 [B, 3, H, W]."""
See = Callable[[Sequence[str]], Tensor]
"""Image paths of one frame -> projector output [B, N, D]."""
Key = TypeVar("Key")
FrameOf = Callable[[str], Frame | None]
"""Image path -> the image's frame."""


def usual(_path: str) -> None:
    """Every image has the model's usual frame."""


PIXELS_KEPT = 2**30
"""Bytes of preprocessed pixels that a bank keeps."""


class ImageBank:
    """Preprocessed pixels of a benchmark's images; so many bytes of them are kept, those last asked for."""

    def __init__(self, mllm: Mllm, benchmark: Benchmark, kept: int = PIXELS_KEPT):
        by_path = {q.image: q for q in benchmark.questions if q.image is not None}

        def framed(path: str) -> Frame:
            return mllm.frame_of(*benchmark.image(by_path[path]).size)

        def prepared(path: str) -> Tensor:
            return mllm.at(self.frame(path)).pixels([benchmark.image(by_path[path])])[0]

        self.mllm = mllm
        self._frame = lru_cache(maxsize=None)(framed)
        self._prepared = cached(LRUCache(kept, getsizeof=lambda pixels: pixels.nbytes))(prepared)

    def frame(self, path: str) -> Frame:
        """The image's frame; only images of one frame go through a model together."""
        return self._frame(path)

    def pixels(self, paths: Sequence[str]) -> Tensor:
        """Of images of one frame, float32 [B, 3, H, W]."""
        return torch.stack([self._prepared(path) for path in paths])

    def on_pictures(self, path: str, pixels: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Pixels of images of that image's frame, every picture that they consist of changed."""
        return self.mllm.at(self.frame(path)).on_pictures(pixels, change)


@dataclass(frozen=True)
class Seen:
    """B portraits as the LLM meets them. features: projector output [B, N, D]."""

    keys: tuple[str, ...]
    features: Tensor


class Images:
    """Portraits that are looked at and not asked about. batch: how many a training step takes."""

    def __init__(self, keys: Sequence[str], see: See, batch: int = 1, frame: FrameOf = usual):
        self.keys, self.see, self.batch, self.frame = list(keys), see, batch, frame

    def chunks(self, keys: Sequence[str], size: int) -> list[list[str]]:
        """These, at most `size` at a time."""
        return chunked(keys, size, self.frame)

    def forward(self, keys: Sequence[str]) -> Seen:
        """Through tower and projector as they are now."""
        return Seen(tuple(keys), self.see(keys))


@dataclass(frozen=True)
class Outputs:
    """One packed forward of B rows with up to Q questions each, T answer tokens in all.

    keys: the rows' images, or people where the questions are asked by name. features: projector output [B, N, D], None
    by name. hidden: the LLM's last hidden states at the answer tokens [T, D], row by row. logits: [T, V] there.
    """

    keys: tuple[str, ...]
    features: Tensor | None
    hidden: Tensor
    logits: Tensor
    packed: Packed

    @cached_property
    def losses(self) -> Tensor:
        """Mean cross-entropy per answer token of each question, [B, Q], nats; 0 for padding."""
        targets = self.packed.targets[self.packed.answered]
        return self.question_means(F.cross_entropy(self.logits, targets, reduction="none"))

    @cached_property
    def log_probabilities(self) -> Tensor:
        """Of every token of the vocabulary at every answer token, [T, V], nats."""
        return self.logits.log_softmax(dim=-1)

    @property
    def answer_losses(self) -> Tensor:
        """-log p(answer | question), [B, Q]: summed over the answer's tokens, nats."""
        return self.losses * answer_tokens(self.packed)

    @property
    def weights(self) -> Tensor:
        """[B, Q]: 1 for a question and 0 for padding."""
        return self.packed.weights

    def question_means(self, values: Tensor) -> Tensor:
        """Mean over each question's answer tokens, [B, Q], of a value per answer token [T]."""
        return question_means(values, self.packed)

    def mean(self, questions: Tensor) -> Tensor:
        """Mean over questions, then rows, of a value per question [B, Q]: a scalar."""
        return image_losses(questions, self.weights).mean()


def chunked(keys: Sequence[str], size: int, frame: FrameOf = usual) -> list[list[str]]:
    """All keys, at most `size` at a time, and none with one of another frame."""
    groups = alike(keys, frame)
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def alike(keys: Iterable[Key], frame: Callable[[Key], Frame | None]) -> list[list[Key]]:
    """All keys, those of one frame together."""
    groups: dict[Frame | None, list[Key]] = defaultdict(list)
    for key in keys:
        groups[frame(key)].append(key)
    return list(groups.values())


def mean_loss(outputs: Outputs) -> Tensor:
    """Mean over answer tokens, then questions, then rows: a scalar, nats."""
    return outputs.mean(outputs.losses)


class Rows:
    """Questions, grouped into rows that share a prefix: those about a portrait, or about a person by name.

    see: how portraits are looked at, None by name. batch: how many rows a training step takes. frame: the portraits'.
    """

    def __init__(
        self,
        mllm: Mllm,
        rows: Mapping[str, list[Rendered]],
        see: See | None,
        batch: int = 1,
        frame: FrameOf = usual,
    ):
        self.mllm, self.rows, self.see, self.batch, self.frame = mllm, dict(rows), see, batch, frame

    @property
    def keys(self) -> list[str]:
        """Image paths or ids of people, in the benchmark's order."""
        return list(self.rows)

    def chunks(self, keys: Sequence[str], size: int) -> list[list[str]]:
        """These, at most `size` at a time."""
        return chunked(keys, size, self.frame)

    def apart(self, key: str) -> list[list[Rendered]]:
        """The row's questions, those together that share their prefix's activations."""
        return [[question] for question in self.rows[key]] if self.mllm.prefix_lm else [self.rows[key]]

    def everywhere(self, key: str, questions: Sequence[Rendered]) -> None:
        """All layers for all tokens of some of the row's questions, for those who watch the layers."""
        features = self.see([key]) if self.see else None
        self.mllm.at(self.frame(key)).hidden(pack_training([questions], self.mllm.pad), features, everywhere=True)

    def forward(self, keys: Sequence[str]) -> Outputs:
        """The model as it is now over these rows' questions; portraits are of one frame."""
        packed = pack_training([self.rows[key] for key in keys], self.mllm.pad)
        features = self.see(keys) if self.see else None
        hidden = self.mllm.at(self.frame(keys[0])).hidden(packed, features)
        logits = answer_logits(self.mllm.head, hidden)
        return Outputs(tuple(keys), features, hidden, logits, packed.to(hidden.device))


class Portraits(Rows):
    """All training portraits of some people, with every training question about each."""

    see: See

    def __init__(
        self,
        mllm: Mllm,
        bank: ImageBank,
        benchmark: Benchmark,
        people: Collection[str],
        see: See | None = None,
        batch: int = 1,
        instruction: str = "",
    ):
        """`see`: None looks at the pixels with the model as it is. instruction: text before every question, in which
        `{name}` is the person's name."""
        rows: dict[str, list[Rendered]] = defaultdict(list)
        by_person: dict[str, dict[str, None]] = defaultdict(dict)
        for question in benchmark.select(role="train", modality="vqa"):
            if question.entity_id in people and question.image is not None:
                by_person[question.entity_id][question.image] = None
                framed = mllm.at(bank.frame(question.image))
                rows[question.image].append(rendered(framed, instructed(question, instruction)))
        super().__init__(mllm, rows, see or seeing(mllm, bank.pixels, bank.frame), batch, bank.frame)
        self.bank = bank
        self.by_person = {person: tuple(images) for person, images in by_person.items()}


def seeing(mllm: Mllm, pixels: Pixels, frame: FrameOf) -> See:
    """Looking at images with the model as it is."""
    return lambda images: mllm.at(frame(images[0])).features(pixels(images))


def by_name(mllm: Mllm, benchmark: Benchmark, people: Collection[str], batch: int = 1) -> Rows:
    """Every training question by name about some people, a row per person."""
    rows: dict[str, list[Rendered]] = defaultdict(list)
    for question in benchmark.select(role="train", modality="qa"):
        if question.entity_id in people:
            rows[question.entity_id].append(rendered(mllm, question))
    return Rows(mllm, rows, None, batch)


def instructed(question: Question, instruction: str) -> Question:
    """The question with an instruction before it, in which `{name}` is the person's name; empty for none."""
    before = f"{instruction.replace('{name}', question.entity_name)} " if instruction else ""
    return replace(question, prompt=before + question.prompt)


def rendered(mllm: Mllm, question: Question) -> Rendered:
    """The question as a training row."""
    return mllm.prompter.trained(question.prompt, question.answer, image=question.image is not None)


def frozen_batch(mllm: Mllm) -> int:
    """How many images go through frozen layers at once: 64, fewer where they have many tokens."""
    return max(1, min(64, 2**14 // mllm.image_tokens))


def in_main_memory(activations: Tensor) -> Tensor:
    """A copy that takes no place on the model's device."""
    return activations.detach().to("cpu", copy=True)


class FrozenPrefix:
    """Features of images, from cached outputs of the tower layers before `start`, which are kept in main memory.

    Exact as long as those layers do not change. pixels: image paths -> float32 [B, 3, H, W], the same at every call.
    """

    def __init__(self, mllm: Mllm, pixels: Pixels, start: int, frame: FrameOf = usual):
        self.mllm, self.pixels, self.start, self.frame = mllm, pixels, start, frame
        self._cache: dict[str, Tensor] = {}

    @torch.no_grad()
    def fill(self, images: Sequence[str], batch: int) -> None:
        """Run the frozen layers over these images."""
        for chunk in progress(chunked(images, batch, self.frame), "frozen layers"):
            hidden = self.mllm.at(self.frame(chunk[0])).up_to(self.pixels(chunk), self.start)
            self._cache.update(zip(chunk, in_main_memory(hidden), strict=True))

    def features(self, images: Sequence[str]) -> Tensor:
        """v^e [B, N, D] through the layers from `start` on, as they are now."""
        hidden = torch.stack([self._cache[image] for image in images]).to(self.mllm.device)
        mllm = self.mllm.at(self.frame(images[0]))
        return mllm.project(mllm.run_layers(hidden, self.start))
