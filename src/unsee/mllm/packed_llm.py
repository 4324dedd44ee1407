"""The LLM over packed rows: attention in two parts, layers that see apart, and the last layer where it is read only.

Attention is computed in two parts, prefix -> prefix and block -> prefix + own block, so that no dense mask over all
blocks is paid for; only attention sees blocks padded to equal length, all other layers see real tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, rotate_half

from unsee.errors import UserError
from unsee.mllm.packing import Layout, Packed, Reading

ATTENTION = "unsee_packed"
Run = Callable[..., Tensor]
"""(function or module, hidden states, …) -> what it makes of them."""
LLMS = (
    "llama", "mistral", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text", "gemma3_text",
)  # fmt: skip
"""`model_type` of the LLMs whose decoder layers are as `hidden_states` takes them."""


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
    if packing is not None:
        scaling = scaling or query.shape[-1] ** -0.5
        return _in_two_parts(query, *_for_all_heads(query, key, value), packing, scaling).transpose(1, 2), None
    if softcap is not None:
        query = query * (scaling or query.shape[-1] ** -0.5)
        return _capped(query, *_for_all_heads(query, key, value), attention_mask, softcap).transpose(1, 2), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def _for_all_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values that several heads share, once for each."""
    if (groups := query.shape[1] // key.shape[1]) > 1:
        return key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return key, value


def _in_two_parts(query: Tensor, key: Tensor, value: Tensor, packing: Layout, scaling: float) -> Tensor:
    """Prefix to prefix, and blocks to the prefix and themselves. Returns [B, heads, P + S, d]."""
    shared = slice(0, packing.prefix)
    prefix = F.scaled_dot_product_attention(
        query[:, :, shared],
        key[:, :, shared],
        value[:, :, shared],
        attn_mask=packing.sees,
        is_causal=packing.sees is None,
        scale=scaling,
    )
    return torch.cat([prefix, _block_attention(query, key, value, packing, scaling)], dim=2)


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, cap: float) -> Tensor:
    """Causal attention, or as `mask` says, of scaled queries. Returns [B, heads, tokens, d]."""
    scores = cap * torch.tanh(query @ key.transpose(-1, -2) / cap)
    causal = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
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
    run: Run,
    everywhere: bool = False,
    deep: Sequence[Tensor] = (),
    shown: Tensor | None = None,
) -> Tensor:
    """Last hidden states of the T tokens that are read, [T, D], row by row.

    Args:
        language_model: decoder layers that each add self-attention, then an MLP, as in Llama, Mistral and Qwen2.
        prefix: embeddings of the shared prefix [B, P, D], images included.
        positions: rotary positions of the shared prefix [P], or [axes, P]; those of the blocks follow the largest.
        rotary: cosines and sines for each layer, from hidden states and the positions of whole rows.
        windows: how many tokens each layer sees, itself and those before it; None: all.
        run: how a layer is applied.
        everywhere: run the last layer for all tokens, not only for those that are read. A layer whose weights are
            sharded is run as a whole, since they are there only then.
        deep: [B, N, D] each, added to the outputs of the first layers at the places `shown` [N].
    """
    places, masks = _row_positions(positions, packed), [_mask(packed, window) for window in windows]
    packed, places = packed.to(prefix.device), places.to(prefix.device)
    masks = [mask if mask is None else mask.to(prefix.device) for mask in masks]
    hidden = torch.cat([prefix, language_model.get_input_embeddings()(packed.tokens)], dim=1)
    turns = rotary(hidden, places)
    last = language_model.layers[-1]
    everywhere = everywhere or isinstance(last, FSDPModule)
    for layer, turn, mask, added in zip_longest(language_model.layers, turns, masks, deep[: len(masks) - 1]):
        if layer is last and not everywhere:
            break
        packing = packed.layout if mask is None else None
        hidden = run(layer, hidden, position_embeddings=turn, attention_mask=mask, packing=packing)
        if added is not None and shown is not None:
            hidden = hidden.index_add(1, shown, added.to(hidden.dtype))
    if everywhere:
        rows, read = packed.reading.rows, packed.reading.places
        return language_model.norm(hidden[rows, len(packed.prefix) + read][packed.reading.kept])
    read = run(_last_layer, last, hidden, turns[-1], masks[-1], len(packed.prefix), packed.reading)
    return language_model.norm(read[packed.reading.kept])


def windows_of(config: PreTrainedConfig) -> list[int | None]:
    """How many tokens each layer of an LLM sees, itself and those before it; None: all."""
    facts = config.to_dict()
    kinds = facts.get("layer_types") or ["sliding_attention"] * config.num_hidden_layers
    return [facts.get("sliding_window") if kind == "sliding_attention" else None for kind in kinds]


def _mask(packed: Packed, window: int | None) -> Tensor | None:
    """bool [B, 1, P + S, P + S], which token sees which; None where attention in two parts knows."""
    layout, tokens = packed.layout, packed.layout.prefix + packed.tokens.shape[1]
    if layout.mutual is None and (window is None or window > layout.prefix + packed.furthest):
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
    rows, places = reading.rows, prefix + reading.places
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
    ids = prefix.clamp(max=embeddings.num_embeddings - 1).to(embeddings.weight.device)
    embedded = embeddings(ids).expand(rows, -1, -1)
    if features is None:
        return embedded
    places = (prefix == image_token_id).nonzero()[:, 0]
    if len(places) != features.shape[1]:
        raise UserError(
            f"the chat template puts the image behind the question: {len(places)} of its {features.shape[1]} tokens "
            "are in what the questions about it share; use a template in which the image comes first"
        )
    return embedded.index_copy(1, places.to(embedded.device), features.to(embedded.dtype))
