"""Questions as token ids: the family's own chat template, image placeholders expanded, the answer span found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from unsee.errors import UserError


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt and its answer(s) as ids. `prompt` includes BOS and the image placeholders; answers end with EOS
    where they are trained."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


class Prompter:
    """Renders questions with a tokenizer's chat template.

    The answer span is what follows the longest common token prefix of the renderings with and without the answer, so
    a tokenizer that merges across the border still gets the right labels. It ends with an end-of-sequence token,
    whatever a template puts behind that; where a template has none, with EOS. BOS is the tokenizer's where a template
    has none.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_token_id: int,
        image_tokens: int,
        placeholder: str,
        image_text: str,
        ends: Sequence[int],
    ):
        """image_tokens: features of an image. placeholder: what the template writes for one, where image_text is to
        stand; each image token in that is repeated for its share of the features. ends: ids that end an answer."""
        self.tokenizer = tokenizer
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self.placeholder = placeholder
        self.image_text = image_text
        self.ends = ends
        self._ids = lru_cache(maxsize=200_000)(self._tokenize)

    def trained(self, prompt: str, answer: str, *, image: bool) -> Rendered:
        """The prompt and its one answer with EOS, as a training row."""
        return self._render(prompt, (answer,), image, end=True)

    def scored(self, prompt: str, options: Sequence[str], *, image: bool) -> Rendered:
        """The prompt and the options without EOS, as scored by mean log-probability per token."""
        return self._render(prompt, tuple(options), image, end=False)

    def asked(self, prompt: str, *, image: bool) -> tuple[int, ...]:
        """The prompt alone, as generation starts from it."""
        return self._ids(prompt, None, image)

    def _render(self, prompt: str, answers: tuple[str, ...], image: bool, end: bool) -> Rendered:
        whole = [self._ids(prompt, answer, image) for answer in answers]
        asked = self._ids(prompt, None, image)
        border = min(common_prefix([asked, ids]) for ids in whole)
        last = None if end else -1
        return Rendered(asked[:border], tuple(ids[border:last] for ids in whole))

    def _tokenize(self, prompt: str, answer: str | None, image: bool) -> tuple[int, ...]:
        for token in self.tokenizer.all_special_tokens:
            if token in f"{prompt} {answer}":
                raise UserError(f"{prompt!r} with answer {answer!r} holds the special token {token}; write it without")
        text, bos = self._text(prompt, answer, image), self.tokenizer.bos_token
        if answer is not None:
            answered = text[common_prefix([text, self._text(prompt, None, image)]) :]
            if not any(end in answered for end in self.tokenizer.convert_ids_to_tokens(self.ends)):
                text = text.rstrip() + self.tokenizer.eos_token
        ids = self.tokenizer(text, add_special_tokens=bos is not None and bos not in text)["input_ids"]
        if answer is not None:
            ids = ids[: 1 + max(place for place, token in enumerate(ids) if token in self.ends)]
        share = self.image_tokens // max(1, ids.count(self.image_token_id))
        return tuple(i for token in ids for i in [token] * (share if token == self.image_token_id else 1))

    def _text(self, prompt: str, answer: str | None, image: bool) -> str:
        content = [{"type": "image"}] * image + [{"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
        return text.replace(self.placeholder, self.image_text) if image else text


def common_prefix(rows: Sequence[Sequence[Any]]) -> int:
    """Length of the longest prefix that all rows share."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    for index, (left, right) in enumerate(zip(first, last, strict=False)):
        if left != right:
            return index
    return min(len(first), len(last))
