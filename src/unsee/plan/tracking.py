"""What real code would need, found by running it on tensors without contents.

torch's FakeTensorMode makes such tensors, its MemTracker follows every storage, its FlopCounterMode counts
multiplications. Indices are real tensors: rows are packed as they are in a run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType, _RefType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from unsee.attention_flops import ATTENTION

aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put_.default)
NUMBERS = (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default)


@dataclass(frozen=True)
class Peak:
    """Bytes on the device at the peak, and what they are."""

    total: int
    weights: int
    gradients: int
    optimiser: int
    activations: int


class Tracker(MemTracker):
    """MemTracker for models whose modules run several times a step, which it cannot attribute memory to.

    most_kept: bytes that were moved to main memory, and were there at one time. beside: of what was made there, at its
    peak. trained: numbers that an optimiser steps over. Where a number of a fake tensor is asked for, 1 is given: a
    loss, a norm.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self._moved = WeakIdKeyDictionary()
        self.most_kept = 0
        self.beside = 0
        self.trained = 0
        self._looks_away = False
        self._track_module_params_and_buffers(model, install_grad_hooks=True)

    def __enter__(self) -> "Tracker":
        self._fake_mode_on_entry = None
        self._register_global_optimizer_hook()
        TorchDispatchMode.__enter__(self)
        return self

    def __exit__(self, *args: Any) -> None:
        TorchDispatchMode.__exit__(self, *args)
        self._deregister_param_and_optimizer_hooks()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is made inside is in main memory, and does not count for the peak."""
        self._looks_away = True
        with Tracker(nn.Module()) as other:
            yield
        self._looks_away = False
        self.beside = other.peak.total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._looks_away:
            return func(*args, **(kwargs or {}))
        if func in NUMBERS and isinstance(args[0], FakeTensor):
            return False if args[0].dtype == torch.bool else 1
        if func in INDEXED:
            args = args[0], _places(args[1]), *args[2:]
        if func is aten._to_copy.default and _moves(args[0], **(kwargs or {})):
            copied = func(*args, **kwargs)
            self._moved[copied.untyped_storage()] = copied.nbytes
            self.most_kept = max(self.most_kept, sum(self._moved.values()))
            return copied
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _track_optimizer_states(self, reftype: _RefType, optimizer: optim.Optimizer) -> None:
        super()._track_optimizer_states(reftype, optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            self._update_and_maybe_create_winfos(parameter, _MemRefType.PARAM)
        self.trained = sum(parameter.numel() for parameter in parameters)

    @property
    def peak(self) -> Peak:
        (found,) = self.get_tracker_snapshot("peak").values()
        weights = found["Parameter"] + found["Buffer"]
        gradients, optimiser = found["Gradient"], found["Optstate"]
        total = found["Total"]
        return Peak(total, weights, gradients, optimiser, total - weights - gradients - optimiser)


def _places(indices: list[Tensor | None]) -> list[Tensor | None]:
    """The same without masks: a mask with contents says how much is chosen, which is lost where it has none."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            found += index.nonzero(as_tuple=True)
        else:
            found.append(index)
    return found


def _moves(tensor: Tensor, device: torch.device | None = None, dtype: torch.dtype | None = None, **_: Any) -> bool:
    """Whether a copy is of the same numbers to main memory; a cast stays where it is."""
    return device == torch.device("cpu") and dtype in (None, tensor.dtype)


class Counter(FlopCounterMode):
    """FlopCounterMode without attribution to modules, which keeps activations alive."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=ATTENTION)

    def __enter__(self) -> "Counter":
        self.mode = _FlopCounterMode(self)
        self.mode.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        if self.mode is not None:
            self.mode.__exit__(*args)


@contextmanager
def tracked(model: nn.Module) -> Iterator[tuple[Tracker, Counter]]:
    """Follow what happens inside."""
    tracker, counter = Tracker(model), Counter()
    with counter, tracker:
        yield tracker, counter


def blank(fake: Any, *shape: int) -> Tensor:
    """A float32 tensor without contents."""
    with fake:
        return torch.empty(shape)
