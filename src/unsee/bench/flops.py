"""What a phase computes and how fast: FLOPs of its matrix products, seconds, and the processor's measured peak."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from unsee.attention_flops import ATTENTION

PEAK_SIZES = (
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (2048, 576, 1536),
    (2048, 1536, 576),
    (2048, 3072, 768),
)
"""Rows, inner size and columns of the products whose best rate is the peak: square ones, and an MLP's."""
PEAK_RUNS = 5

Result = TypeVar("Result")


@dataclass(frozen=True)
class Phase:
    """Floating-point operations of all matrix products of a phase (a multiplication and an addition are two), and
    wall-clock seconds."""

    flops: float
    seconds: float

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(self.flops + other.flops, self.seconds + other.seconds)

    def __truediv__(self, count: float) -> "Phase":
        return Phase(self.flops / count, self.seconds / count)

    def figures(self, peak: float) -> dict[str, float]:
        """With the model FLOPs utilisation: the share of a peak in FLOP/s."""
        return {**asdict(self), "utilisation": self.flops / self.seconds / peak}


def counted(work: Callable[[], object]) -> int:
    """FLOPs of a run. Counting slows small operations down, so it is not timed."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        work()
    return counter.get_total_flops()


def measured(work: Callable[[], Result]) -> tuple[Phase, Result]:
    """Of work that can be done twice: first counted, which warms up, then timed."""
    flops = counted(work)
    started = time.perf_counter()
    result = work()
    return Phase(flops, time.perf_counter() - started), result


def matmul_peak() -> float:
    """FLOP/s of the fastest float32 matrix product, with the threads that are set."""
    return max(_rate(*size) for size in PEAK_SIZES)


def _rate(rows: int, inner: int, columns: int) -> float:
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    clock = [time.perf_counter()]
    for _ in range(PEAK_RUNS):
        torch.nn.functional.linear(left, right)
        clock.append(time.perf_counter())
    return 2 * rows * inner * columns / min(after - before for before, after in pairwise(clock))
