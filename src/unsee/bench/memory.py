"""Peak memory of one unlearning epoch, in a process of its own."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from unsee.bench.ours import Ours
from unsee.bench.stock import Stock
from unsee.bench.workloads import Recipe
from unsee.compute import Compute
from unsee.memory import peak_resident


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of a process in bytes: once model and benchmark are loaded, and at the end."""

    loaded: int
    peak: int


def measure(recipe: Recipe, batch_rows: int | None) -> Memory:
    """Peak memory of an epoch of ours, or of the plain implementation at `batch_rows` rows per forward."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_epoch, recipe, batch_rows).result()


def _epoch(recipe: Recipe, batch_rows: int | None) -> Memory:
    with tempfile.TemporaryDirectory() as directory:
        workload = recipe.build(Path(directory) / "benchmark")
        Compute.of(workload.settings.unlearn.compute).start()
        loaded = peak_resident()
        run = Ours(workload) if batch_rows is None else Stock(workload, batch_rows)
        run.epoch()
        return Memory(loaded, peak_resident())
