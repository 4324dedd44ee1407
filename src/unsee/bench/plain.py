"""The plain forward: transformers' stock model on one right-padded row per question (and option).

It is what the packed forward must equal, and what its speed is measured against.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers.modeling_outputs import ModelOutput

from unsee.mllm.families import Mllm
from unsee.mllm.packing import IGNORE
from unsee.mllm.prompts import Rendered


def _forward(mllm: Mllm, sequences: Sequence[tuple[int, ...]], pixels: Tensor | None) -> ModelOutput:
    """Stock forward over right-padded rows [R, T] with their images [R, 3, H, W]."""
    longest = max(map(len, sequences))
    ids = torch.tensor([row + (mllm.pad,) * (longest - len(row)) for row in sequences])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in sequences])
    return mllm.model(**mllm.model_inputs(ids, pixels), attention_mask=mask, use_cache=False)


def features(mllm: Mllm, pixels: Tensor) -> Tensor:
    """Projector output [B, N, D] from pixels [B, 3, H, W]."""
    return torch.stack(list(mllm.model.get_image_features(**mllm.image_inputs(pixels)).pooler_output))


def answer_log_probabilities(
    mllm: Mllm, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pixels: Tensor | None
) -> list[Tensor]:
    """Log-probabilities of every answer token of (prompt, answer) rows, each row with its own copy of the image."""
    logits = _forward(mllm, [prompt + answer for prompt, answer in rows], pixels).logits
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


@dataclass(frozen=True)
class RowOutputs:
    """losses: mean cross-entropy per answer token [R], nats. features: projector output [R, N, D], if with images."""

    losses: Tensor
    features: Tensor | None


def row_outputs(mllm: Mllm, rows: Sequence[Rendered], pixels: Tensor | None) -> RowOutputs:
    """One right-padded batch; each row brings its image's pixels along [R, 3, H, W], as a stock data collator does."""
    output = _forward(mllm, [r.prompt + r.answers[0] for r in rows], pixels)
    targets = torch.full(output.logits.shape[:2], IGNORE)
    for row, rendered in enumerate(rows):
        start = len(rendered.prompt) - 1
        targets[row, start : start + len(rendered.answers[0])] = torch.tensor(rendered.answers[0])
    losses = F.cross_entropy(output.logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORE)
    features = None if pixels is None else output.image_hidden_states.unflatten(0, (len(rows), -1))
    return RowOutputs(losses.view(targets.shape).sum(dim=1) / (targets != IGNORE).sum(dim=1), features)


def option_scores(mllm: Mllm, row: Sequence[Rendered], pixels: Tensor | None) -> list[list[float]]:
    """Mean log-probability per token of every option of every question about one image [3, H, W] (or none)."""
    pairs = [(r.prompt, answer) for r in row for answer in r.answers]
    copies = None if pixels is None else pixels.expand(len(pairs), -1, -1, -1)
    scores = iter(answer_log_probabilities(mllm, pairs, copies))
    return [[float(next(scores).mean()) for _ in r.answers] for r in row]
