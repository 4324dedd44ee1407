"""One prefix per image: many questions share the image's tokens in one forward pass, exactly.

A row is a prefix (BOS, header, image tokens) followed by blocks, one per question, laid end to end. A token of a block
sees the prefix and its own block, never another block; positions restart after the prefix. The result equals asking
every question in a row of its own.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from unsee.mllm.prompts import Rendered, common_prefix

IGNORE = -100
Places = tuple[Tensor, ...]
"""Where a bool tensor is True, int64 for each of its axes: known where rows are packed, so that no device waits."""
Holder = TypeVar("Holder", bound="Layout | OptionTokens | Packed | Reading")


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
        nothing = torch.zeros(self.visible.shape, device=self.visible.device)
        return nothing.masked_fill_(~self.visible, -torch.inf)[:, None]

    @cached_property
    def into_blocks(self) -> Tensor:
        """int64 [B * Q * L]: the token of all rows' tokens [B * S] that each slot of all blocks holds."""
        rows = torch.arange(len(self.slots), device=self.slots.device)
        return (rows[:, None] * self.places.shape[1] + self.slots.flatten(1)).flatten()

    @cached_property
    def into_row(self) -> Tensor:
        """int64 [B * S]: the inverse."""
        rows = torch.arange(len(self.places), device=self.places.device)
        return (rows[:, None] * self.slots[0].numel() + self.places).flatten()

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

    Made on the CPU; `to` a model's device once. prefix: int64 [P] ids shared by all rows (image placeholders included),
    always on the CPU. tokens: int64 [B, S]. positions: int64
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
    def answered(self) -> Places:
        """Where."""
        return self.asked.nonzero(as_tuple=True)

    @cached_property
    def furthest(self) -> int:
        """The largest of the positions."""
        return int(self.positions.max())

    def to(self, device: torch.device) -> "Packed":
        """The same on another device, with all that is found out from the values of indices."""
        if self.tokens.device == device:
            return self
        self.answered, self.furthest, self.reading.kept, self.options  # noqa: B018 (found out before it moves)
        self.layout.bias, self.layout.into_blocks, self.layout.into_row  # noqa: B018
        moved = _moved(self, device)
        moved.__dict__["prefix"] = self.prefix
        return moved

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

    @cached_property
    def options(self) -> "OptionTokens":
        """Where the tokens of options are read."""
        present = self.answers[..., 0] >= 0
        number = self.read.flatten().cumsum(dim=0).view(self.read.shape) - 1
        places = present.nonzero(as_tuple=True)
        place, token = self.answers[present].unbind(dim=-1)
        return OptionTokens(places, number[places[0], place], token, present.sum(dim=-1))


@dataclass(frozen=True)
class OptionTokens:
    """The N tokens of all options. places: in [B, Q, O, T]. read: int64 [N], which of the tokens that are read predicts
    it. ids: int64 [N]. count: int64 [B, Q, O], how many each option has."""

    places: Places
    read: Tensor
    ids: Tensor
    count: Tensor


@dataclass(frozen=True)
class Reading:
    """The tokens whose last hidden state is read, at most R per row.

    places: int64 [B, R], where in the row (0: none). taken: bool [B, R], False for padding. visible: bool
    [B, R, P + S], what of the prefix and the blocks such a token sees.
    """

    places: Tensor
    taken: Tensor
    visible: Tensor

    @cached_property
    def kept(self) -> Places:
        """Where it is no padding."""
        return self.taken.nonzero(as_tuple=True)

    @property
    def rows(self) -> Tensor:
        """int64 [B, 1], the number of each row."""
        return torch.arange(len(self.places), device=self.places.device)[:, None]

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


def _moved(holder: Holder, device: torch.device) -> Holder:
    """A copy whose tensors, those found out by now included, are on a device."""

    def moved(value: object) -> object:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, tuple):
            return tuple(map(moved, value))
        return _moved(value, device) if isinstance(value, (Layout, OptionTokens, Reading)) else value

    other = copy.copy(holder)
    other.__dict__.update({name: moved(value) for name, value in holder.__dict__.items()})
    return other


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
    return own, None if features is None else features[row.to(features.device)]


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


def answer_logits(head: nn.Module, read: Tensor) -> Tensor:
    """Logits [T, V] from last hidden states [T, D]; float32 at least."""
    logits = head(read)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def question_losses(head: nn.Module, read: Tensor, packed: Packed) -> Tensor:
    """Cross-entropy in nats, mean over the answer tokens of each question: [B, Q], 0 for padding. read: [T, D]."""
    packed = packed.to(read.device)
    targets = packed.targets[packed.answered]
    return question_means(F.cross_entropy(answer_logits(head, read), targets, reduction="none"), packed)


def question_means(values: Tensor, packed: Packed) -> Tensor:
    """Mean over the answer tokens of each question, [B, Q] (0 for padding), of a value per answer token [T]."""
    packed = packed.to(values.device)
    per_token = values.new_zeros(packed.asked.shape).index_put(packed.answered, values)
    summed = values.new_zeros(packed.weights.shape).scatter_add(1, packed.layout.blocks, per_token)
    return summed / answer_tokens(packed).clamp(min=1)


def answer_tokens(packed: Packed) -> Tensor:
    """How many answer tokens each question has, int64 [B, Q]."""
    none = packed.tokens.new_zeros(packed.weights.shape)
    return none.scatter_add(1, packed.layout.blocks, packed.asked.long())


def image_losses(questions: Tensor, weights: Tensor) -> Tensor:
    """Mean over the questions of each image: [B] from [B, Q]."""
    return (questions * weights).sum(dim=1) / weights.sum(dim=1)


def option_scores(head: nn.Module, read: Tensor, packed: Packed) -> Tensor:
    """Mean log-probability per token of every option, [B, Q, O]; -inf where there is no such option. read: [T, D]."""
    packed = packed.to(read.device)
    options, log_probabilities = packed.options, answer_logits(head, read).log_softmax(dim=-1)
    taken = log_probabilities[options.read, options.ids]
    summed = taken.new_zeros(packed.answers.shape[:-1]).index_put(options.places, taken).sum(dim=-1)
    return (summed / options.count.clamp(min=1)).masked_fill(options.count == 0, -torch.inf)
