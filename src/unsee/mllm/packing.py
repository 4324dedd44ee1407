"""One prefix per image: many questions share the image's tokens in one forward pass, exactly.

A row is a prefix (BOS, header, image tokens) followed by blocks, one per question, laid end to end. A token of a block
sees the prefix and its own block, never another block; positions restart after the prefix. The result equals asking
every question in a row of its own. Attention is computed in two parts, prefix -> prefix (causal) and block -> prefix +
own block, so that no dense mask over all blocks is paid for; only attention sees blocks padded to equal length, all
other layers see real tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, rotate_half

from unsee.errors import UserError
from unsee.mllm.prompts import Rendered, common_prefix

ATTENTION = "unsee_packed"
LLMS = (
    "llama", "mistral", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text", "gemma3_text",
)  # fmt: skip
"""`model_type` of the LLMs whose decoder layers are as `hidden_states` takes them."""
IGNORE = -100


@dataclass(frozen=True)
class Layout:
    """Where the blocks of B rows lie. Q blocks of at most L tokens per row, S tokens after the prefix at most.

    prefix: P, tokens in the prefix. slots: int64 [B, Q, L], where in the row a block's tokens stand (0: none).
    places: int64 [B, S], the inverse: block * L + offset. visible: bool [B, Q, L, L], which tokens of its block a
    token sees; padding is seen by nobody. sees: bool [P, P], which tokens of the prefix see which (None: causal).
    mutual: int64 [B], how many tokens at a row's beginning all see each other (None: none; else one block per row).
    """

    prefix: int
    slots: Tensor
    places: Tensor
    visible: Tensor
    sees: Tensor | None = None
    mutual: Tensor | None = None

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
    prompts: int64 [B, Q], how many tokens of each block are of the prompt.
    """

    prefix: Tensor
    tokens: Tensor
    positions: Tensor
    layout: Layout
    targets: Tensor
    answers: Tensor
    weights: Tensor
    prompts: Tensor

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
        prompts=_lengths([[r.prompt[prefix:] for r in row] for row in rows]),
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
        prompts=_lengths([[r.prompt[prefix:] for r in row] for row in rows]),
    )


def alone(packed: Packed, features: Tensor | None) -> tuple[Packed, Tensor | None]:
    """The same questions in rows of their own, each with its row's features, for an LLM whose prefix sees the question.

    The tokens that are read come in the same order.
    """
    filled = packed.layout.visible.diagonal(dim1=-2, dim2=-1)
    row, block = filled.any(dim=-1).nonzero().unbind(dim=-1)
    filled, prompts = filled[row, block], packed.prompts[row, block]
    from_row = row[:, None], packed.layout.slots[row, block]
    slots = torch.arange(filled.shape[1]).where(filled, 0)
    layout = Layout(
        packed.layout.prefix,
        slots=slots[:, None],
        places=slots,
        visible=packed.layout.visible[row, block][:, None],
        mutual=packed.layout.prefix + prompts,
    )
    own = Packed(
        prefix=packed.prefix,
        tokens=packed.tokens[from_row],
        positions=packed.positions[from_row],
        layout=layout,
        targets=torch.zeros_like(slots).where(packed.read[from_row] & filled, IGNORE),
        answers=torch.empty(len(row), 1, 0, 0, 2, dtype=torch.long),
        weights=torch.ones(len(row), 1),
        prompts=prompts[:, None],
    )
    return own, None if features is None else features[row]


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
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention over a packed row; with no `packing` it is transformers' own SDPA. query: [B, heads, P + S, d].

    softcap: without `packing`, scores are kept within +-softcap by a hyperbolic tangent, which SDPA cannot.
    """
    if packing is None and softcap is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = scaling or query.shape[-1] ** -0.5
    if packing is None:
        return _capped_attention(query * scaling, key, value, attention_mask, softcap).transpose(1, 2), None
    shared = slice(0, packing.prefix)
    prefix = F.scaled_dot_product_attention(
        query[:, :, shared],
        key[:, :, shared],
        value[:, :, shared],
        attn_mask=packing.sees,
        is_causal=packing.sees is None,
        scale=scaling,
    )
    blocks = _block_attention(query, key, value, packing, scaling)
    return torch.cat([prefix, blocks], dim=2).transpose(1, 2), None


def _capped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, cap: float | None) -> Tensor:
    """Causal attention, or as `mask` says, of scaled queries. Returns [B, heads, tokens, d]."""
    scores = cap * torch.tanh(query @ key.transpose(-1, -2) / cap)
    causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    return scores.masked_fill(~(causal if mask is None else mask), -torch.inf).softmax(dim=-1) @ value


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


def hidden_states(
    language_model: PreTrainedModel,
    packed: Packed,
    prefix: Tensor,
    positions: Tensor,
    rotary: Callable[[Tensor, Tensor], Sequence[tuple[Tensor, Tensor]]],
    windows: Sequence[int | None],
) -> Tensor:
    """Last hidden states of the T tokens that are read, [T, D], row by row.

    Args:
        language_model: decoder layers that each add self-attention, then an MLP, as in Llama, Mistral and Qwen2.
        prefix: embeddings of the shared prefix [B, P, D], images included.
        positions: rotary positions of the shared prefix [P], or [axes, P]; those of the blocks follow the largest.
        rotary: cosines and sines for each layer, from hidden states and the positions of whole rows.
        windows: how many tokens each layer sees, itself and those before it; None: all.
    """
    hidden = torch.cat([prefix, language_model.get_input_embeddings()(packed.tokens)], dim=1)
    turns = rotary(hidden, _row_positions(positions, packed))
    masks = [_mask(packed, window) for window in windows]
    *layers, last = language_model.layers
    for layer, turn, mask in zip(layers, turns, masks, strict=False):
        packing = packed.layout if mask is None else None
        hidden = layer(hidden, position_embeddings=turn, attention_mask=mask, packing=packing)
    read = _last_layer(last, hidden, turns[-1], masks[-1], len(packed.prefix), packed.reading)
    return language_model.norm(read[packed.reading.taken])


def windows_of(config: PreTrainedConfig) -> list[int | None]:
    """How many tokens each layer of an LLM sees, itself and those before it; None: all."""
    facts = config.to_dict()
    kinds = facts.get("layer_types") or ["sliding_attention"] * config.num_hidden_layers
    return [facts.get("sliding_window") if kind == "sliding_attention" else None for kind in kinds]


def _mask(packed: Packed, window: int | None) -> Tensor | None:
    """bool [B, 1, P + S, P + S], which token sees which; None where attention in two parts knows."""
    layout, tokens = packed.layout, packed.layout.prefix + packed.tokens.shape[1]
    if layout.mutual is None and (window is None or window > layout.prefix + int(packed.positions.max())):
        return None
    places = _row_positions(torch.arange(layout.prefix), packed)
    causal = torch.ones(layout.prefix, layout.prefix, dtype=torch.bool).tril()
    seen = torch.zeros(len(places), tokens, tokens, dtype=torch.bool)
    seen[:, : layout.prefix, : layout.prefix] = causal if layout.sees is None else layout.sees
    seen[:, layout.prefix :] = Reading.of(torch.ones_like(packed.tokens, dtype=torch.bool), layout).visible
    if window is not None:
        seen &= places[:, :, None] - places[:, None, :] < window
    if layout.mutual is not None:
        early = torch.arange(tokens) < layout.mutual[:, None]
        seen |= early[:, :, None] & early[:, None, :]
    return seen[:, None]


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
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    rotary: tuple[Tensor, Tensor],
    mask: Tensor | None,
    prefix: int,
    reading: Reading,
) -> Tensor:
    """The last decoder layer's output at the tokens read, [B, R, D]. All others only give it keys and values."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    heads = (*hidden.shape[:2], -1, attention.head_dim)
    key, value = (project(normed).view(heads).transpose(1, 2) for project in (attention.k_proj, attention.v_proj))
    key = dict(attention.named_children()).get("k_norm", nn.Identity())(key)
    cos, sin = (part[:, None] for part in rotary)
    key = key * cos + rotate_half(key) * sin
    rows, places = torch.arange(len(hidden))[:, None], prefix + reading.places
    return layer(
        hidden[rows, places],
        position_embeddings=tuple(part[rows, places] for part in rotary),
        attention_mask=(reading.visible if mask is None else mask[rows, 0, places])[:, None],
        past_key_values=_Seen(key, value),
    )


def prefix_embeddings(
    language_model: PreTrainedModel, prefix: Tensor, rows: int, features: Tensor | None, image_token_id: int
) -> Tensor:
    """Embeddings [rows, P, D] of the shared prefix ids [P], each row's image placeholders replaced by its features."""
    embeddings = language_model.get_input_embeddings()
    embedded = embeddings(prefix.clamp(max=embeddings.num_embeddings - 1)).expand(rows, -1, -1)
    if features is None:
        return embedded
    places = (prefix == image_token_id).nonzero()[:, 0]
    if len(places) != features.shape[1]:
        raise UserError(
            f"the chat template puts the image behind the question: {len(places)} of its {features.shape[1]} tokens "
            "are in what the questions about it share; use a template in which the image comes first"
        )
    return embedded.index_copy(1, places, features.to(embedded.dtype))


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
