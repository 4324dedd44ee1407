"""The weights of a model folder, read from its safetensors files one by one: no page of them stays in memory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from unsee.errors import UserError
from unsee.mllm.quantised import quantised

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file. `[...]` reads it, as transformers asks of a slice of safetensors, which would hold its bytes
    twice meanwhile."""

    file: Any
    name: str

    def __getitem__(self, _: EllipsisType) -> Tensor:
        return self.file.get_tensor(self.name)


def opened(directory: Path) -> dict[str, Stored]:
    """The folder's tensors by the names that its files give them; each is read anew when it is asked for.

    Raises:
        SafetensorError: a damaged file.
        OSError: no file.
    """
    if (directory / INDEX).exists():
        names = sorted({*json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].values()})
        files = [directory / name for name in names]
    else:
        files = [directory / "model.safetensors"]
    found: dict[str, Stored] = {}
    for file in files:
        shard = safe_open(file, framework="pt", backend="pread")
        found.update({name: Stored(shard, name) for name in shard.keys()})  # noqa: SIM118
    return found


def weights(directory: Path, model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder by the name that it has in `model`, one in memory at a time.

    Raises:
        UserError: at the end: the folder lacks one of the model's tensors.
    """
    own, renamings = model.state_dict(), get_model_conversion_mapping(model)
    names, given = _names_of_tied(own), set[str]()
    known = [renaming for renaming in renamings if isinstance(renaming, WeightRenaming)]
    for name, stored in opened(directory).items():
        renamed, _ = rename_source_key(name, known, [], model.base_model_prefix, own)
        place = renamed if renamed in own else name
        if place in own:
            given.update(names[place])
            yield place, stored[...]
    if missing := sorted(own.keys() - given):
        raise UserError(f"{directory} has no weights for {missing[0]}; save it again with this version of transformers")


@torch.no_grad()
def copy_into(model: PreTrainedModel, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Give the model these weights, in its own dtype and on its own device, quantised where it is.

    Raises:
        UserError: one is of another shape.
    """
    own, packed = model.state_dict(), quantised(model)
    for name, tensor in tensors:
        stored, wanted = list(tensor.shape), list((packed[name] if name in packed else own[name]).shape)
        if stored != wanted:
            raise UserError(f"{name} is {stored} on disk and {wanted} in the model; give the weights of this model")
        if name in packed:
            packed[name].take(tensor)
        else:
            own[name].copy_(tensor)
        del tensor  # before the next is read


def changed(model: PreTrainedModel, base: Path) -> dict[str, Tensor]:
    """Copies, in main memory, of the tensors of `model` that differ from the folder `base` in any bit, rounded as the
    model's are; tied ones no longer share memory. Quantised ones, which nothing changes, do not count.

    Raises:
        UserError: the folder lacks one of the model's tensors.
    """
    own, names = model.state_dict(), _names_of_tied(model.state_dict())
    found: dict[str, Tensor] = {}
    packed = quantised(model)
    for name, stored in weights(base, model):
        if name not in packed and not same_bits(own[name], stored.to(own[name])):
            found |= {n: own[n].to("cpu", copy=True, memory_format=torch.contiguous_format) for n in names[name]}
        del stored  # before the next is read
    return found


def _names_of_tied(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Name -> all names of the same tensor."""
    by_place: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        by_place.setdefault(tensor.data_ptr(), []).append(name)
    return {name: by_place[tensor.data_ptr()] for name, tensor in tensors.items()}


def same_bits(tensor: Tensor, other: Tensor) -> bool:
    """Equality that tells 0 from -0, which pruning makes of each other."""
    return torch.equal(tensor, other) and torch.equal(tensor.signbit(), other.signbit())
