"""Asking a model: likelihoods of options and greedy answers, one forward of the prefix per image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from unsee.benchmark.schema import Question
from unsee.errors import TrainingFailure
from unsee.evaluation.parsing import LETTERS
from unsee.mllm.families import Mllm
from unsee.mllm.packed_llm import text_start
from unsee.mllm.packing import option_scores, pack_options
from unsee.mllm.prompts import Rendered, common_prefix
from unsee.mllm.rows import FrameOf, Pixels, chunked, usual
from unsee.parallel import in_order, own_turns

AskedModality = Literal["vqa", "qa", "qa_with_face", "qa_with_other_face"]
TEXT_ROW = 32
SPARE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is put to the model: with this image (a path in the benchmark) or without."""

    question: Question
    modality: AskedModality
    image: str | None


@dataclass(frozen=True)
class Row:
    """Questions that share one image (or share having none), and where they stood in the list asked for."""

    image: str | None
    asked: list[Asked]
    places: list[int]


def batches(asked: Sequence[Asked], batch_images: int, frame: FrameOf = usual) -> Iterator[list[Row]]:
    """Rows of questions on one image each, in batches of one frame; text questions make rows of their own."""
    by_image: dict[str, Row] = {}
    text: list[Row] = []
    for place, item in enumerate(asked):
        if item.image is not None:
            row = by_image.setdefault(item.image, Row(item.image, [], []))
        else:
            if not text or len(text[-1].asked) == TEXT_ROW:
                text.append(Row(None, [], []))
            row = text[-1]
        row.asked.append(item)
        row.places.append(place)
    for images in chunked(list(by_image), batch_images, frame):
        yield [by_image[image] for image in images]
    for start in range(0, len(text), batch_images):
        yield text[start : start + batch_images]


class Examiner:
    """Asks one model questions, without gradients. Of several processes each asks a part, and all have the answers."""

    def __init__(
        self,
        mllm: Mllm,
        pixels: Pixels,
        batch_images: int,
        choice: Literal["options", "letter"] = "options",
        frame: FrameOf = usual,
    ):
        self.mllm, self.pixels, self.batch_images, self.choice = mllm, pixels, batch_images, choice
        self.frame = frame

    def asks_freely(self, question: Question) -> bool:
        """Whether the question is put as it stands, so that the answer itself is expected and not a letter."""
        return self.choice == "options" or question.options is None

    def prompt(self, question: Question) -> str:
        """The question, with its lettered options where the model is to name a letter."""
        if question.options is None or self.asks_freely(question):
            return question.prompt
        listed = "\n".join(f"{letter}: {option}" for letter, option in zip(LETTERS, question.options, strict=False))
        return f"{question.prompt}\n{listed}\nJust give ONE letter representing the answer directly."

    def candidates(self, question: Question) -> tuple[str, ...]:
        """The texts whose likelihoods decide: the options themselves, or their letters."""
        options = question.options or ()
        return options if self.choice == "options" else tuple(LETTERS[: len(options)])

    @torch.inference_mode()
    def scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        """Mean log-probability per token of every option of every question, in nats, in the order asked.

        Raises:
            TrainingFailure: a score is NaN or infinite.
        """
        found: dict[int, list[float]] = {}
        for rows in own_turns(list(batches(asked, self.batch_images, self.frame))):
            rendered = [[self._scored(item) for item in row.asked] for row in rows]
            packed = pack_options(rendered, self.mllm.pad)
            hidden = self._at(rows[0].image).hidden(packed, self._features(rows))
            scores = option_scores(self.mllm.head, hidden, packed)
            for row, values in zip(rows, scores.tolist(), strict=True):
                for place, item, options in zip(row.places, row.asked, values, strict=False):
                    found[place] = _finite(item.question, options[: len(self.candidates(item.question))])
        return in_order(found)

    def right(self, asked: Sequence[Asked]) -> list[bool]:
        """Whether the right option of each question is the likeliest."""
        scores = zip(asked, self.scores(asked), strict=True)
        return [int(np.argmax(of_options)) == item.question.answer_index for item, of_options in scores]

    @torch.inference_mode()
    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """Greedy answers, in the order asked, of at most a few tokens more than the longest right answer."""
        found: dict[int, str] = {}
        trained = [self.mllm.prompter.trained(a.question.prompt, a.question.answer, image=False) for a in asked]
        longest = max((len(r.answers[0]) for r in trained), default=0) + SPARE_TOKENS
        for rows in own_turns(list(batches(asked, self.batch_images, self.frame))):
            texts = iter(self._generate(rows, longest))
            for row in rows:
                for place in row.places:
                    found[place] = next(texts)
        return in_order(found)

    def _scored(self, item: Asked) -> Rendered:
        question = item.question
        prompter = self._at(item.image).prompter
        return prompter.scored(self.prompt(question), self.candidates(question), image=item.image is not None)

    def _asked(self, item: Asked) -> tuple[int, ...]:
        return self._at(item.image).prompter.asked(self.prompt(item.question), image=item.image is not None)

    def _at(self, image: str | None) -> Mllm:
        """The model at the frame of this image."""
        return self.mllm if image is None else self.mllm.at(self.frame(image))

    def _features(self, rows: Sequence[Row]) -> Tensor | None:
        images = [row.image for row in rows if row.image is not None]
        return self._at(images[0]).features(self.pixels(images)) if images else None

    def _generate(self, rows: Sequence[Row], longest: int) -> list[str]:
        """The prefix once per row, its cache shared by the row's questions, then token by token."""
        mllm, flat = self._at(rows[0].image), [self._asked(item) for row in rows for item in row.asked]
        if not mllm.shares_prefix(max(map(len, flat)) + longest):
            images = [row.image for row in rows for _ in row.asked]
            return [self._alone(ids, image, longest) for ids, image in zip(flat, images, strict=True)]
        shared = min(common_prefix(flat), min(map(len, flat)) - 1)
        prefix = torch.tensor(flat[0][:shared])
        cache = DynamicCache(config=mllm.language_model.config)
        inputs = mllm.prefix_inputs(prefix, len(rows), self._features(rows))
        mllm.language_model(**inputs, past_key_values=cache, use_cache=True)
        rows_of = [i for i, row in enumerate(rows) for _ in row.asked]
        cache.batch_select_indices(torch.tensor(rows_of, device=mllm.device))
        tails = [ids[shared:] for ids in flat]
        width = max(map(len, tails))
        ids = torch.tensor([(mllm.pad,) * (width - len(tail)) + tail for tail in tails], device=mllm.device)
        mask = ids.new_tensor([[1] * shared + [0] * (width - len(tail)) + [1] * len(tail) for tail in tails])
        shift = text_start(mllm.positions(prefix)) - shared
        done, ends = ids.new_zeros(len(flat), dtype=torch.bool), ids.new_tensor(mllm.ends)
        written: list[Tensor] = []
        while len(written) < longest and not bool(done.all()):
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :] + shift
            output = self.mllm.language_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            ids = self.mllm.head(output.last_hidden_state[:, -1]).argmax(dim=-1, keepdim=True)
            ids[done] = self.mllm.pad
            done |= torch.isin(ids[:, 0], ends)
            written.append(ids)
            mask = torch.cat([mask, mask.new_ones(len(flat), 1)], dim=1)
        texts = self.mllm.tokenizer.batch_decode(torch.cat(written, dim=1), skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _alone(self, ids: tuple[int, ...], image: str | None, longest: int) -> str:
        """What transformers' own generation writes after one prompt."""
        mllm, prompt = self._at(image), torch.tensor([ids])
        inputs = mllm.model_inputs(prompt, self.pixels([image]) if image else None)
        inputs = {name: value.to(mllm.device) for name, value in inputs.items()}
        end = {"eos_token_id": mllm.ends, "pad_token_id": mllm.pad}
        seen = torch.ones_like(inputs["input_ids"])
        written = mllm.model.generate(**inputs, **end, attention_mask=seen, max_new_tokens=longest, do_sample=False)
        return mllm.tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True).strip()


def _finite(question: Question, scores: list[float]) -> list[float]:
    """NaN would be taken for the first option and look like guessing."""
    if not all(map(math.isfinite, scores)):
        raise TrainingFailure(
            f"the model scores the options of question {question.question_id} with {scores}, which are no numbers: its "
            "weights are broken; nothing was published; train it again with a lower learning rate"
        )
    return scores
