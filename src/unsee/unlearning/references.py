"""What a frozen model says about rows, computed once: no second model is resident while another is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from unsee.mllm.packing import answer_logits, answer_tokens
from unsee.mllm.rows import Images, Outputs, Portraits, Rows, frozen_batch, in_main_memory
from unsee.progress import progress
from unsee.unlearning.method import Term

CHUNK = 32


@torch.no_grad()
def reference_features(images: Images | Portraits, most: int = CHUNK) -> dict[str, Tensor]:
    """Projector output [N, D] of every image, in main memory: at LLaVA-1.5's 576 x 4,096 numbers 9.4 MB each in
    float32, for every version of the images. most: no more images than these, and 32, go through the model at once."""
    chunks = progress(images.chunks(images.keys, min(CHUNK, most)), "the teacher's features")
    seen = {key: t for chunk in chunks for key, t in zip(chunk, in_main_memory(images.see(chunk)), strict=True)}
    return {key: seen[key] for key in images.keys}


@torch.no_grad()
def _by_row(rows: Rows, of: Callable[[Outputs], Sequence[Tensor]]) -> dict[str, Tensor]:
    """What `of` makes of a forward, one tensor per row."""
    chunks = progress(rows.chunks(rows.keys, min(CHUNK, frozen_batch(rows.mllm))), "the reference model's answers")
    return {key: t for chunk in chunks for key, t in zip(chunk, of(rows.forward(chunk)), strict=True)}


@dataclass(frozen=True)
class AnswerLosses:
    """-log p(answer | question) of every question, nats: key -> [Q]."""

    losses: Mapping[str, Tensor]

    @classmethod
    def of(cls, rows: Rows) -> "AnswerLosses":
        """As the model is now."""
        return cls(_by_row(rows, lambda outputs: list(outputs.answer_losses)))

    def __call__(self, outputs: Outputs) -> Tensor:
        """[B, Q], aligned with the outputs' questions."""
        found = pad_sequence([self.losses[key] for key in outputs.keys], batch_first=True)
        return found[:, : outputs.weights.shape[1]]


@dataclass(frozen=True)
class AnswerDistributions:
    """Distributions over the vocabulary at every answer token, kept as the hidden states they come from.

    hidden: K draws, each key -> [T, D]; the distribution is their mean. head: the output layer behind them. At LLaVA's
    geometry a hidden state is eight times smaller than its distribution over 32,000 tokens.
    """

    hidden: Sequence[Mapping[str, Tensor]]
    head: nn.Module

    @classmethod
    def of(cls, head: nn.Module, *draws: Rows) -> "AnswerDistributions":
        """As the model is now, its output layer being `head`; several `draws` of the same questions are averaged."""
        return cls([_by_row(rows, _hidden_of_rows) for rows in draws], head)

    @torch.no_grad()
    def __call__(self, outputs: Outputs) -> Tensor:
        """Log-probabilities [T, V] at the outputs' answer tokens."""
        hidden = [torch.cat([draw[key] for key in outputs.keys]).to(outputs.hidden.device) for draw in self.hidden]
        logs = torch.stack([answer_logits(self.head, h).log_softmax(dim=-1) for h in hidden])
        return logs.logsumexp(dim=0) - math.log(len(hidden))


def _hidden_of_rows(outputs: Outputs) -> Sequence[Tensor]:
    return in_main_memory(outputs.hidden).split(answer_tokens(outputs.packed).sum(dim=1).tolist())


def kl_divergence(reference: AnswerDistributions, outputs: Outputs) -> Tensor:
    """KL(reference || model) at the answer tokens, mean over them, then questions, then rows: a scalar, nats."""
    wanted = reference(outputs)
    divergence = (wanted.exp() * (wanted - outputs.log_probabilities)).sum(dim=-1)
    return outputs.mean(outputs.question_means(divergence))


def kl_term(name: str, rows: Rows, *draws: Rows, head: nn.Module, weight: float = 1.0, forgets: bool = False) -> Term:
    """KL(reference || model) over `rows`, where the reference is what the model says now about `draws` of them.

    head: `Work.vanilla_head` of the method's own work, one for all terms.
    """
    return Term(name, rows, partial(kl_divergence, AnswerDistributions.of(head, *draws)), weight, forgets)
