"""One prefix per image: many questions share the image's tokens in one forward pass, exactly.

A row is a prefix (BOS, header, image tokens) followed by blocks, one per question, laid end to end. A token of a block
sees the prefix and its own block, never another block; positions restart after the prefix. The result equals asking
every question in a row of its own. Attention is computed in two parts, prefix -> prefix (causal) and block -> prefix +
own block, so that no dense mask over all blocks is paid for; only attention sees blocks padded to equal length, all
other layers see real tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, rotate_half

from unsee.mllm.prompts import Rendered, common_prefix

ATTENTION = "unsee_packed"
IGNORE = -100


@dataclass(frozen=True)
class Layout:
    """Where the blocks of B rows lie. Q blocks of at most L tokens per row, S tokens after the prefix at most.

    prefix: P, tokens in the prefix. slots: int64 [B, Q, L], where in the row a block's tokens stand (0: none).
    places: int64 [B, S], the inverse: block * L + offset. visible: bool [B, Q, L, L], which tokens of its block a
    token sees; padding is seen by nobody.
    """

    prefix: int
    slots: Tensor
    places: Tensor
    visible: Tensor

    @classmethod
    def of(cls, prefix: int, lengths: Tensor) -> "Layout":
        """Causal blocks of these lengths, int64 [B, Q] (0: no block)."""
        offsets = torch.arange(int(lengths.max()))
        starts = lengths.cumsum(dim=1) - lengths
        filled = offsets < lengths[..., None]
        slots = torch.where(filled, starts[..., None] + offsets, 0)
        places = torch.zeros(len(lengths), int(lengths.sum(dim=1).max()), dtype=torch.long)
        rows = torch.arange(len(lengths))[:, None, None].expand_as(slots)
        numbers = torch.arange(slots[0].numel()).view(slots.shape[1:]).expand_as(slots)
        places[rows[filled], slots[filled]] = numbers[filled]
        causal = offsets[None, :] <= offsets[:, None]
        return cls(prefix, slots, places, causal & filled[:, :, None, :])

    @cached_property
    def bias(self) -> Tensor:
        """float [B, 1, Q, L, L]: added to the attention scores inside blocks, 0 where visible and -inf elsewhere.

        Padding, which sees nothing, still sees the prefix: no row of the softmax is empty.
        """
        return torch.zeros(self.visible.shape).masked_fill_(~self.visible, -torch.inf)[:, None]

    @cached_property
    def into_blocks(self) -> Tensor:
        """int64 [B * Q * L]: the token of all rows' tokens [B * S] that each slot of all blocks holds."""
        return (torch.arange(len(self.slots))[:, None] * self.places.shape[1] + self.slots.flatten(1)).flatten()

    @cached_property
    def into_row(self) -> Tensor:
        """int64 [B * S]: the inverse."""
        return (torch.arange(len(self.places))[:, None] * self.slots[0].numel() + self.places).flatten()

    @property
    def blocks(self) -> Tensor:
        """int64 [B, S]: which block a token belongs to."""
        return self.places // self.slots.shape[2]

    @property
    def offsets(self) -> Tensor:
        """int64 [B, S]: how far into its block a token stands."""
        return self.places % self.slots.shape[2]


@dataclass(frozen=True)
class Packed:
    """B rows (images, or text rows) of up to Q questions.

    prefix: int64 [P] ids shared by all rows (image placeholders included). tokens: int64 [B, S]. positions: int64
    [B, S], counted from the end of the prefix, alike on every axis. targets: int64 [B, S], the id to be predicted *at*
    each position, IGNORE where nothing is asked. answers: int64 [B, Q, O, T, 2], (place in the row, id) of each token
    of each option, padded with (-1, -1); O = 0 in training. weights: float [B, Q], 1 for a question and 0 for padding.
    """

    prefix: Tensor
    tokens: Tensor
    positions: Tensor
    layout: Layout
    targets: Tensor
    answers: Tensor
    weights: Tensor

    @cached_property
    def asked(self) -> Tensor:
        """bool [B, S]: where an answer token is predicted in training."""
        return self.targets != IGNORE

    @cached_property
    def read(self) -> Tensor:
        """bool [B, S]: the tokens whose last hidden state is read, in training or to score options."""
        read, of_options = self.asked.clone(), self.answers[..., 0] >= 0
        read[of_options.nonzero()[:, 0], self.answers[of_options][:, 0]] = True
        return read

    @cached_property
    def reading(self) -> "Reading":
        """Where they are, and what they see."""
        return Reading.of(self.read, self.layout)


@dataclass(frozen=True)
class Reading:
    """The tokens whose last hidden state is read, at most R per row.

    places: int64 [B, R], where in the row (0: none). taken: bool [B, R], False for padding. visible: bool
    [B, R, P + S], what of the prefix and the blocks such a token sees.
    """

    places: Tensor
    taken: Tensor
    visible: Tensor

    @classmethod
    def of(cls, read: Tensor, layout: Layout) -> "Reading":
        """The tokens marked in `read`, bool [B, S]."""
        taken, places = read.sort(dim=1, descending=True, stable=True)
        most = int(read.sum(dim=1).max())
        taken, places = taken[:, :most], places[:, :most].where(taken[:, :most], 0)
        rows = torch.arange(len(read))[:, None]
        block, offset = layout.blocks[rows, places], layout.offsets[rows, places]
        own = torch.zeros(*places.shape, read.shape[1], dtype=torch.uint8)
        own.scatter_add_(2, layout.slots[rows, block], layout.visible[rows, block, offset].to(own.dtype))
        prefix = torch.ones(*places.shape, layout.prefix, dtype=torch.bool)
        return cls(places, taken, torch.cat([prefix, own > 0], dim=2))


def pack_training(rows: Sequence[Sequence[Rendered]], pad: int) -> Packed:
    """Blocks of prompt + answer, causal, with the answer tokens as targets. `rows[b]` are the questions of image b.

    The answer's last token is never fed: nothing is predicted after it.
    """
    prefix = _shared_prefix(rows)
    sequences = [[r.prompt[prefix:] + r.answers[0][:-1] for r in row] for row in rows]
    wanted = [[(IGNORE,) * (len(r.prompt) - prefix - 1) + r.answers[0] for r in row] for row in rows]
    lengths = _lengths(sequences)
    layout = Layout.of(prefix, lengths)
    return Packed(
        prefix=torch.tensor(rows[0][0].prompt[:prefix], dtype=torch.long),
        tokens=_end_to_end(sequences, pad),
        positions=layout.offsets,
        layout=layout,
        targets=_end_to_end(wanted, IGNORE),
        answers=torch.empty(*lengths.shape, 0, 0, 2, dtype=torch.long),
        weights=(lengths > 0).float(),
    )


def pack_options(rows: Sequence[Sequence[Rendered]], pad: int) -> Packed:
    """Blocks shaped as trees: the prompt once, then every option's tail, each seeing the prompt and itself only.

    An option's last token is never fed: its probability is read at the token before it.
    """
    prefix = _shared_prefix(rows)
    sequences = [[_tree_tokens(r, prefix) for r in row] for row in rows]
    lengths = _lengths(sequences)
    layout = Layout.of(prefix, lengths)
    tokens, positions = _end_to_end(sequences, pad), layout.offsets.clone()
    options = max(len(r.answers) for row in rows for r in row)
    longest = max(len(a) for row in rows for r in row for a in r.answers)
    answers = torch.full((*lengths.shape, options, longest, 2), -1)
    for b, row in enumerate(rows):
        for q, rendered in enumerate(row):
            start = int(layout.slots[b, q, 0])
            own = positions[b, start : start + int(lengths[b, q])]
            _fill_tree(rendered, len(rendered.prompt) - prefix, start, own, layout.visible[b, q], answers[b, q])
    return Packed(
        prefix=torch.tensor(rows[0][0].prompt[:prefix], dtype=torch.long),
        tokens=tokens,
        positions=positions,
        layout=layout,
        targets=torch.full_like(tokens, IGNORE),
        answers=answers,
        weights=(lengths > 0).float(),
    )


def _tree_tokens(rendered: Rendered, prefix: int) -> tuple[int, ...]:
    return rendered.prompt[prefix:] + tuple(i for answer in rendered.answers for i in answer[:-1])


def _fill_tree(rendered: Rendered, asked: int, start: int, positions: Tensor, visible: Tensor, answers: Tensor) -> None:
    """Positions [block], visibility [L, L] and answer places [O, T, 2] of one block that begins at `start`."""
    first = asked
    for option, ids in enumerate(rendered.answers):
        stop = first + len(ids) - 1
        positions[first:stop] = asked + torch.arange(stop - first)
        visible[first:stop, asked:first] = False
        read_at = torch.tensor([asked - 1, *range(first, stop)])
        answers[option, : len(ids)] = torch.stack([start + read_at, torch.tensor(ids)], dim=1)
        first = stop


def _shared_prefix(rows: Sequence[Sequence[Rendered]]) -> int:
    """The tokens all prompts begin with, leaving at least one prompt token in every block."""
    prompts = [r.prompt for row in rows for r in row]
    return min(common_prefix(prompts), min(map(len, prompts)) - 1)


def _lengths(sequences: Sequence[Sequence[tuple[int, ...]]]) -> Tensor:
    blocks = max(map(len, sequences))
    return torch.tensor([[len(ids) for ids in row] + [0] * (blocks - len(row)) for row in sequences])


def _end_to_end(sequences: Sequence[Sequence[tuple[int, ...]]], fill: int) -> Tensor:
    joined = [[i for ids in row for i in ids] for row in sequences]
    longest = max(map(len, joined))
    return torch.tensor([ids + [fill] * (longest - len(ids)) for ids in joined])


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
    """Attention over a packed row; with no `packing` it is transformers' own SDPA. query: [B, heads, P + S, d]."""
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
    """softmax over the prefix and the own block, in one normalisation. Returns [B, heads, S, d]."""
    p = packing.prefix
    own_query, own_key, own_value = (_to_blocks(x[:, :, p:], packing) for x in (query, key, value))
    own_query = own_query * scaling
    to_prefix = own_query.flatten(2, 3) @ key[:, :, :p].transpose(-1, -2)
    to_own = own_query @ own_key.transpose(-1, -2) + packing.bias.to(query.dtype)
    shares = torch.cat([to_prefix, to_own.flatten(2, 3)], dim=-1).softmax(dim=-1)
    of_prefix, of_own = shares.split([p, own_key.shape[3]], dim=-1)
    from_own = of_own.unflatten(2, own_key.shape[2:4]) @ own_value
    return _to_row(of_prefix @ value[:, :, :p] + from_own.flatten(2, 3), packing)


def _to_blocks(row: Tensor, packing: Layout) -> Tensor:
    """[B, heads, S, d] -> [B, heads, Q, L, d]. Whole tokens are copied: many times faster than `gather` per head."""
    moved = row.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, packing.into_blocks)
    return moved.view(*packing.slots.shape, row.shape[1], row.shape[3]).permute(0, 3, 1, 2, 4)


def _to_row(blocks: Tensor, packing: Layout) -> Tensor:
    """[B, heads, Q * L, d] -> [B, heads, S, d]."""
    moved = blocks.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, packing.into_row)
    return moved.view(*packing.places.shape, blocks.shape[1], blocks.shape[3]).transpose(1, 2)


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def hidden_states(language_model: PreTrainedModel, packed: Packed, prefix: Tensor, positions: Tensor) -> Tensor:
    """Last hidden states of the T tokens that are read, [T, D], row by row.

    Args:
        language_model: decoder layers that each add self-attention, then an MLP, as in Llama, Mistral and Qwen2.
        prefix: embeddings of the shared prefix [B, P, D], images included.
        positions: rotary positions of the shared prefix [P], or [axes, P]; those of the blocks follow the largest.
    """
    hidden = torch.cat([prefix, language_model.get_input_embeddings()(packed.tokens)], dim=1)
    rotary = language_model.rotary_emb(hidden, _row_positions(positions, packed))
    *layers, last = language_model.layers
    for layer in layers:
        hidden = layer(hidden, position_embeddings=rotary, attention_mask=None, packing=packed.layout)
    read = _last_layer(last, hidden, rotary, len(packed.prefix), packed.reading)
    return language_model.norm(read[packed.reading.taken])


def _row_positions(prefix: Tensor, packed: Packed) -> Tensor:
    """Rotary positions of whole rows, [B, P + S] or [axes, B, P + S], from those of the prefix."""
    rows = (*prefix.shape[:-1], len(packed.tokens), -1)
    blocks = text_start(prefix) + packed.positions
    return torch.cat([prefix.unsqueeze(-2).expand(rows), blocks.expand(rows)], dim=-1)


def text_start(positions: Tensor) -> int:
    """The rotary position behind a prefix of these positions: an image may span fewer of them than it has tokens."""
    return int(positions.max()) + 1


@dataclass(frozen=True)
class _Seen:
    """Stands in for a layer's cache: the keys and values of all tokens, whatever tokens ask."""

    key: Tensor
    value: Tensor

    def update(self, _key: Tensor, _value: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        return self.key, self.value


def _last_layer(
    layer: LlamaDecoderLayer, hidden: Tensor, rotary: tuple[Tensor, Tensor], prefix: int, reading: Reading
) -> Tensor:
    """The last decoder layer's output at the tokens read, [B, R, D]. All others only give it keys and values."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    heads = (*hidden.shape[:2], -1, attention.head_dim)
    key, value = (project(normed).view(heads).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    cos, sin = (part[:, None] for part in rotary)
    key = key * cos + rotate_half(key) * sin
    rows, places = torch.arange(len(hidden))[:, None], prefix + reading.places
    return layer(
        hidden[rows, places],
        position_embeddings=tuple(part[rows, places] for part in rotary),
        attention_mask=reading.visible[:, None],
        past_key_values=_Seen(key, value),
    )


def prefix_embeddings(
    language_model: PreTrainedModel, prefix: Tensor, rows: int, features: Tensor | None, image_token_id: int
) -> Tensor:
    """Embeddings [rows, P, D] of the shared prefix ids [P], each row's image placeholders replaced by its features."""
    embedded = language_model.get_input_embeddings()(prefix).expand(rows, -1, -1)
    if features is None:
        return embedded
    start = int((prefix == image_token_id).nonzero()[0])
    stop = start + features.shape[1]
    return torch.cat([embedded[:, :start], features.to(embedded.dtype), embedded[:, stop:]], dim=1)


def answer_logits(head: nn.Module, read: Tensor) -> Tensor:
    """Logits [T, V] from last hidden states [T, D]; float32 at least."""
    logits = head(read)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def question_losses(head: nn.Module, read: Tensor, packed: Packed) -> Tensor:
    """Cross-entropy in nats, mean over the answer tokens of each question: [B, Q], 0 for padding. read: [T, D]."""
    targets = packed.targets[packed.asked]
    return question_means(F.cross_entropy(answer_logits(head, read), targets, reduction="none"), packed)


def question_means(values: Tensor, packed: Packed) -> Tensor:
    """Mean over the answer tokens of each question, [B, Q] (0 for padding), of a value per answer token [T]."""
    per_token = torch.zeros(packed.asked.shape, dtype=values.dtype).masked_scatter(packed.asked, values)
    summed = torch.zeros(packed.weights.shape, dtype=values.dtype).scatter_add(1, packed.layout.blocks, per_token)
    return summed / answer_tokens(packed).clamp(min=1)


def answer_tokens(packed: Packed) -> Tensor:
    """How many answer tokens each question has, int64 [B, Q]."""
    none = torch.zeros(packed.weights.shape, dtype=torch.long)
    return none.scatter_add(1, packed.layout.blocks, packed.asked.long())


def image_losses(questions: Tensor, weights: Tensor) -> Tensor:
    """Mean over the questions of each image: [B] from [B, Q]."""
    return (questions * weights).sum(dim=1) / weights.sum(dim=1)


def option_scores(head: nn.Module, read: Tensor, packed: Packed) -> Tensor:
    """Mean log-probability per token of every option, [B, Q, O]; -inf where there is no such option. read: [T, D]."""
    log_probabilities = answer_logits(head, read).log_softmax(dim=-1)
    number = packed.read.flatten().cumsum(dim=0).view(packed.read.shape) - 1
    present = packed.answers[..., 0] >= 0
    place, token = packed.answers[present].unbind(dim=-1)
    taken = log_probabilities[number[present.nonzero()[:, 0], place], token]
    summed = torch.zeros(present.shape, dtype=taken.dtype).masked_scatter(present, taken).sum(dim=-1)
    count = present.sum(dim=-1)
    return (summed / count.clamp(min=1)).masked_fill(count == 0, -torch.inf)
