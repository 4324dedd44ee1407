"""A step's work over several processes: which part of it is this one's, and how the parts become the whole.

All processes hold the model and run the same program; they differ in the rows that they read. What they find is added
up or joined before anything is done with it, so that masks, clipping and decisions see what one process would. Alone,
every function gives back what it was given, bit for bit. `unsee.launching` starts the processes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

Item = TypeVar("Item")


def world() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the one that writes, saves and tracks."""
    return rank() == 0


class OthersAreDone(BaseException):
    """Ends a process that has nothing more to contribute, without failing."""


def main_goes_on() -> None:
    """What comes next is done once: other processes end here, and may not be asked for anything hereafter."""
    if not is_main():
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # what the main one waits for may be under way
        raise OthersAreDone


def own(items: Sequence[Item]) -> list[Item]:
    """This process's part: every so many-th item."""
    return list(items[rank() :: world()])


def own_or_any(items: Sequence[Item]) -> tuple[list[Item], int]:
    """This process's part of items, and how many of them count: where there are too few for all, the first stands in
    and does not count, since every process has to go the same way through a model that they share."""
    part = own(items)
    return (part, len(part)) if part else (list(items[:1]), 0)


class Chunked(Protocol):
    """Rows that go through a model a few at a time."""

    def chunks(self, keys: Sequence[str], size: int) -> list[list[str]]: ...


def own_chunks(rows: Chunked, keys: Sequence[str], size: int) -> list[tuple[list[str], int]]:
    """This process's part of some rows, at most `size` at a time, each chunk with how many of it count: as
    `own_or_any`, every process gets as many chunks."""
    parts = [rows.chunks(keys[number :: world()], size) for number in range(world())]
    chunks = [(chunk, len(chunk)) for chunk in parts[rank()]]
    return chunks + [(list(keys[:1]), 0)] * (max(map(len, parts)) - len(chunks))


def own_turns(items: Sequence[Item]) -> list[Item]:
    """This process's part of items, as many as every other's: where they do not come out even, the first again."""
    part = own(items)
    return part + list(items[:1]) * (-(-len(items) // world()) - len(part))


def add_up(tensors: Iterable[Tensor | None]) -> None:
    """Make each of these the sum over processes, in place; the same are None in all of them.

    A share of a tensor (`unsee.sharding`) is that of the sum already.
    """
    if world() == 1:
        return
    parts = [tensor for tensor in tensors if tensor is not None and not is_share(tensor)]
    for sent in [dist.all_reduce(tensor, async_op=True) for tensor in parts]:
        sent.wait()


def total(values: Mapping[str, float]) -> dict[str, float]:
    """The sum over processes of each value."""
    if world() == 1:
        return dict(values)
    summed = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(summed)
    return dict(zip(values, summed.tolist(), strict=True))


def in_order(found: Mapping[int, Item]) -> list[Item]:
    """What all processes found, by its place from 0 on."""
    parts: list[Mapping[int, Item]] = [found] * world()
    if world() > 1:
        dist.all_gather_object(parts, found)
    everything = {place: item for part in parts for place, item in part.items()}
    return [everything[place] for place in range(len(everything))]


def as_main(value: Item) -> Item:
    """The main process's value, whatever this one's is."""
    if world() == 1:
        return value
    told: list[Any] = [value]
    dist.broadcast_object_list(told)
    return told[0]


def tensors_as_main(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The main process's tensors, one sent after the other."""
    shapes = as_main({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
    received = {
        name: tensors[name] if is_main() else torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()
    }
    for tensor in received.values() if world() > 1 else ():
        dist.broadcast(tensor, src=0)
    return received


def is_share(tensor: Tensor) -> bool:
    """Whether the rest of it is with other processes."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process has a share, put together; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def for_main(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """These tensors, whole and contiguous; empty in other processes than the main one, which take part all the same."""
    put_together = ((name, whole(tensor)) for name, tensor in tensors.items())
    return {name: tensor.contiguous() for name, tensor in put_together if is_main()}


def share_like(tensor: Tensor, other: Tensor) -> Tensor:
    """The share of a whole tensor that goes with this process's share of another; the tensor if that is whole too."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
