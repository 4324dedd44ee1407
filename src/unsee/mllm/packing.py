"""One prefix per image: many questions share the image's tokens in one forward pass, exactly.

A row is a prefix (BOS, header, image tokens) followed by blocks, one per question. A token of a block sees the prefix
and its own block, never another block; positions restart after the prefix. The result equals asking every question
in a row of its own. Attention is computed in two parts, prefix -> prefix (causal) and block -> prefix + own block, so
that no dense mask over all blocks is paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from unsee.mllm.prompts import Rendered, common_prefix

ATTENTION = "unsee_packed"
IGNORE = -100


@dataclass(frozen=True)
class Packed:
    """Rows of equal shape: B images (or text rows), Q blocks each, L tokens per block, padded.

    prefix: int64 [P] ids shared by all rows (image placeholders included).
    tokens: int64 [B, Q, L]; positions: int64 [B, Q, L], counted from the end of the prefix.
    visible: bool [B, Q, L, L] or None for plain causal blocks: which tokens of its block a token sees.
    targets: int64 [B, Q, L], the id to be predicted *at* each position, IGNORE where nothing is asked.
    answers: int64 [B, Q, O, T, 2] or None: (position, id) of each token of each option, (-1, -1) padded.
    weights: float [B, Q], 1 for a question and 0 for padding.
    """

    prefix: Tensor
    tokens: Tensor
    positions: Tensor
    visible: Tensor | None
    targets: Tensor
    answers: Tensor | None
    weights: Tensor


@dataclass(frozen=True)
class Layout:
    """What the attention needs to know about a packed row."""

    prefix: int
    blocks: int
    length: int
    visible: Tensor | None


def pack_training(rows: Sequence[Sequence[Rendered]], pad: int) -> Packed:
    """Blocks of prompt + answer, causal, with the answer tokens as targets. `rows[b]` are the questions of image b."""
    prefix = _shared_prefix(rows)
    sequences = [[r.prompt[prefix:] + r.answers[0] for r in row] for row in rows]
    asked = [[len(r.prompt) - prefix for r in row] for row in rows]
    tokens = _padded(sequences, pad)
    targets = torch.full_like(tokens, IGNORE)
    for b, row in enumerate(sequences):
        for q, ids in enumerate(row):
            start = asked[b][q] - 1
            targets[b, q, start : len(ids) - 1] = torch.tensor(ids[start + 1 :])
    positions = torch.arange(tokens.shape[2]).expand_as(tokens)
    return Packed(_prefix_ids(rows, prefix), tokens, positions, None, targets, None, _weights(rows, tokens))


def pack_options(rows: Sequence[Sequence[Rendered]], pad: int) -> Packed:
    """Blocks shaped as trees: the prompt once, then every option's tail, each seeing the prompt and itself only.

    An option's last token is never fed: its probability is read at the token before it.
    """
    prefix = _shared_prefix(rows)
    sequences = [[_tree_tokens(r, prefix) for r in row] for row in rows]
    tokens = _padded(sequences, pad)
    b, q, length = tokens.shape
    options = max(len(r.answers) for row in rows for r in row)
    longest = max(len(a) for row in rows for r in row for a in r.answers)
    positions = torch.zeros_like(tokens)
    visible = torch.eye(length, dtype=torch.bool).repeat(b, q, 1, 1)
    answers = torch.full((b, q, options, longest, 2), -1)
    for i, row in enumerate(rows):
        for j, rendered in enumerate(row):
            _fill_tree(rendered, prefix, positions[i, j], visible[i, j], answers[i, j])
    targets = torch.full_like(tokens, IGNORE)
    return Packed(_prefix_ids(rows, prefix), tokens, positions, visible, targets, answers, _weights(rows, tokens))


def _tree_tokens(rendered: Rendered, prefix: int) -> tuple[int, ...]:
    return rendered.prompt[prefix:] + tuple(i for answer in rendered.answers for i in answer[:-1])


def _fill_tree(rendered: Rendered, prefix: int, positions: Tensor, visible: Tensor, answers: Tensor) -> None:
    asked = len(rendered.prompt) - prefix
    positions[:asked] = torch.arange(asked)
    visible[:asked, :asked] = torch.ones(asked, asked, dtype=torch.bool).tril()
    start = asked
    for option, ids in enumerate(rendered.answers):
        tail = len(ids) - 1
        stop = start + tail
        positions[start:stop] = asked + torch.arange(tail)
        visible[start:stop, :asked] = True
        visible[start:stop, start:stop] = torch.ones(tail, tail, dtype=torch.bool).tril()
        read_at = torch.tensor([asked - 1, *range(start, stop)])
        answers[option, : len(ids)] = torch.stack([read_at, torch.tensor(ids)], dim=1)
        start = stop


def _shared_prefix(rows: Sequence[Sequence[Rendered]]) -> int:
    """The tokens all prompts begin with, leaving at least one prompt token in every block."""
    prompts = [r.prompt for row in rows for r in row]
    return min(common_prefix(prompts), min(map(len, prompts)) - 1)


def _prefix_ids(rows: Sequence[Sequence[Rendered]], prefix: int) -> Tensor:
    return torch.tensor(rows[0][0].prompt[:prefix], dtype=torch.long)


def _padded(sequences: Sequence[Sequence[tuple[int, ...]]], pad: int) -> Tensor:
    blocks = max(len(row) for row in sequences)
    length = max(len(ids) for row in sequences for ids in row)
    filled = [[ids + (pad,) * (length - len(ids)) for ids in row] for row in sequences]
    return torch.tensor([row + [(pad,) * length] * (blocks - len(row)) for row in filled])


def _weights(rows: Sequence[Sequence[Rendered]], tokens: Tensor) -> Tensor:
    return torch.tensor([[float(q < len(row)) for q in range(tokens.shape[1])] for row in rows])


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Layout | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention over a packed row; with no `packing` it is transformers' own SDPA. query: [B, heads, P + Q*L, d]."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    shared = slice(0, packing.prefix)
    prefix = F.scaled_dot_product_attention(
        query[:, :, shared], key[:, :, shared], value[:, :, shared], is_causal=True, scale=scaling
    )
    blocks = _block_attention(query, key, value, packing, scaling or query.shape[-1] ** -0.5)
    return torch.cat([prefix, blocks], dim=2).transpose(1, 2), None


def _block_attention(query: Tensor, key: Tensor, value: Tensor, packing: Layout, scaling: float) -> Tensor:
    """softmax over the prefix and the own block, in one normalisation. Returns [B, heads, Q*L, d]."""
    p, q, length = packing.prefix, packing.blocks, packing.length
    asking = query[:, :, p:] * scaling
    own_query, own_key, own_value = (x.unflatten(2, (q, length)) for x in (asking, key[:, :, p:], value[:, :, p:]))
    to_prefix = (asking @ key[:, :, :p].transpose(-1, -2)).unflatten(2, (q, length))
    to_block = own_query @ own_key.transpose(-1, -2)
    visible = packing.visible
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    else:
        visible = visible[:, None]
    to_block = to_block.masked_fill(~visible, torch.finfo(query.dtype).min)
    probabilities = torch.cat([to_prefix, to_block], dim=-1).softmax(dim=-1)
    from_prefix = probabilities[..., :p].flatten(2, 3) @ value[:, :, :p]
    return from_prefix + (probabilities[..., p:] @ own_value).flatten(2, 3)


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def hidden_states(language_model: nn.Module, packed: Packed, features: Tensor | None, image_token_id: int) -> Tensor:
    """Last hidden states of the blocks, [B, Q, L, D].

    Args:
        features: projector output [B, N, D] that takes the place of the image placeholders, or None for text rows.
    """
    b, q, length = packed.tokens.shape
    embed = language_model.get_input_embeddings()
    prefix = embed(packed.prefix).expand(b, -1, -1)
    if features is not None:
        start = int((packed.prefix == image_token_id).nonzero()[0])
        prefix = torch.cat([prefix[:, :start], features.to(prefix.dtype), prefix[:, start + features.shape[1] :]], 1)
    p = len(packed.prefix)
    inputs = torch.cat([prefix, embed(packed.tokens.flatten(1))], dim=1)
    positions = torch.cat([torch.arange(p, device=inputs.device).expand(b, -1), p + packed.positions.flatten(1)], 1)
    output = language_model(
        inputs_embeds=inputs,
        position_ids=positions,
        attention_mask=inputs.new_zeros(1, 1, 1, 1),
        use_cache=False,
        packing=Layout(p, q, length, packed.visible),
    )
    return output.last_hidden_state[:, p:].unflatten(1, (q, length))


def question_losses(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, mean over the answer tokens of each question: [B, Q], 0 for padding blocks."""
    asked = targets != IGNORE
    losses = F.cross_entropy(_at_least_fp32(head(hidden[asked])), targets[asked], reduction="none")
    summed = torch.zeros(targets.shape, dtype=losses.dtype).masked_scatter(asked, losses).sum(dim=-1)
    return summed / asked.sum(dim=-1).clamp(min=1)


def image_losses(questions: Tensor, weights: Tensor) -> Tensor:
    """Mean over the questions of each image: [B] from [B, Q]."""
    return (questions * weights).sum(dim=1) / weights.sum(dim=1)


def option_scores(head: nn.Module, hidden: Tensor, answers: Tensor) -> Tensor:
    """Mean log-probability per token of every option, [B, Q, O]; -inf where there is no such option."""
    present = answers[..., 0] >= 0
    b, q, _, _ = torch.nonzero(present, as_tuple=True)
    position, token = answers[present].unbind(dim=-1)
    read = torch.zeros(hidden.shape[:3], dtype=torch.bool, device=hidden.device)
    read[b, q, position] = True
    row = torch.full(read.shape, -1, device=hidden.device).masked_scatter(read, torch.arange(int(read.sum())))
    log_probabilities = _at_least_fp32(head(hidden[read])).log_softmax(dim=-1)
    taken = log_probabilities[row[b, q, position], token]
    summed = torch.zeros(present.shape, dtype=taken.dtype).masked_scatter(present, taken).sum(dim=-1)
    count = present.sum(dim=-1)
    return (summed / count.clamp(min=1)).masked_fill(count == 0, -torch.inf)


def _at_least_fp32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
