"""The plain implementation: transformers' stock forward on one right-padded row per question (and option).

It is what the packed forward must equal, and what its speed is measured against.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from unsee.mllm.families import Mllm
from unsee.mllm.prompts import Rendered


def _logits(mllm: Mllm, sequences: Sequence[tuple[int, ...]], pixels: Tensor | None) -> Tensor:
    """Stock forward over right-padded rows [R, T] with their images [R, 3, H, W]: logits [R, T, vocabulary]."""
    longest = max(map(len, sequences))
    ids = torch.tensor([row + (mllm.pad,) * (longest - len(row)) for row in sequences])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in sequences])
    return mllm.model(input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False).logits


def answer_log_probabilities(
    mllm: Mllm, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pixels: Tensor | None
) -> list[Tensor]:
    """Log-probabilities of every answer token of (prompt, answer) rows, each row with its own copy of the image."""
    logits = _logits(mllm, [prompt + answer for prompt, answer in rows], pixels)
    found = []
    for row, (prompt, answer) in enumerate(rows):
        span = logits[row, len(prompt) - 1 : len(prompt) + len(answer) - 1].log_softmax(dim=-1)
        found.append(span.gather(1, torch.tensor(answer)[:, None])[:, 0])
    return found


def question_losses(mllm: Mllm, row: Sequence[Rendered], pixels: Tensor | None) -> Tensor:
    """Mean cross-entropy per answer token of each question [Q] about one image [3, H, W] (or none), nats."""
    copies = None if pixels is None else pixels.expand(len(row), -1, -1, -1)
    found = answer_log_probabilities(mllm, [(r.prompt, r.answers[0]) for r in row], copies)
    return torch.stack([-log_probabilities.mean() for log_probabilities in found])


def batch_losses(mllm: Mllm, rows: Sequence[tuple[Rendered, int]], pixels: Tensor) -> Tensor:
    """Mean cross-entropy per answer token for (question, image index) rows in one right-padded batch: [R], nats.

    pixels: [B, 3, H, W]; every row brings its image's pixels along, as a stock data collator does.
    """
    copies = pixels[[image for _, image in rows]]
    logits = _logits(mllm, [r.prompt + r.answers[0] for r, _ in rows], copies)
    targets = torch.full(logits.shape[:2], -100)
    for row, (rendered, _) in enumerate(rows):
        start = len(rendered.prompt) - 1
        targets[row, start : start + len(rendered.answers[0])] = torch.tensor(rendered.answers[0])
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=-100)
    return losses.sum(dim=1) / (targets != -100).sum(dim=1)


def option_scores(mllm: Mllm, row: Sequence[Rendered], pixels: Tensor | None) -> list[list[float]]:
    """Mean log-probability per token of every option of every question about one image [3, H, W] (or none)."""
    pairs = [(r.prompt, answer) for r in row for answer in r.answers]
    copies = None if pixels is None else pixels.expand(len(pairs), -1, -1, -1)
    scores = iter(answer_log_probabilities(mllm, pairs, copies))
    return [[float(next(scores).mean()) for _ in r.answers] for r in row]
