"""`unsee bench`: the product against the plain implementation, by turns in one process, and proof that they agree."""

import platform
import statistics as stats
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

import unsee
from unsee.bench import memory
from unsee.bench.compare import relative_differences
from unsee.bench.ours import Ours
from unsee.bench.stock import Stock
from unsee.bench.workloads import PRESET, RECIPES, Recipe
from unsee.compute import Compute
from unsee.evaluation.asking import Asked
from unsee.progress import say
from unsee.settings import load_settings
from unsee.storage.artifact import write_json

Report = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Median seconds. tried: the plain implementation's seconds at each number of rows per forward."""

    ours: float
    plain: float
    plain_batch_rows: int
    tried: dict[int, float]


def main(out: Path) -> Report:
    """Measure every workload and write the figures to `out`, JSON."""
    report = {name: measure(name, recipe) for name, recipe in RECIPES.items()}
    write_json(out, report)
    return report


def measure(name: str, recipe: Recipe) -> Report:
    """Speed, memory and equality of one workload."""
    with tempfile.TemporaryDirectory() as directory:
        benchmark = Path(directory) / "benchmark"
        differences = relative_differences(recipe, benchmark)
        say(f"{name}: largest relative difference {max(differences.values()):.1e}")
        timings, preparation = time_all(name, recipe, benchmark)
    rows = timings["unlearning_epoch"].plain_batch_rows
    peaks = {"ours": memory.measure(recipe, None), "plain": memory.measure(recipe, rows)}
    epoch = timings["unlearning_epoch"]
    return {
        "unlearning_epoch_speedup": epoch.plain / (epoch.ours + preparation),
        "evaluation_speedup": _speedup(timings["evaluation"]),
        "evaluation_speedup_one_row_per_question": _speedup(timings["evaluation_of_answers"]),
        "statistics_speedup": _speedup(timings["statistics"]),
        "max_relative_difference": max(differences.values()),
        "relative_differences": differences,
        "peak_memory_ratio": peaks["ours"].peak / peaks["plain"].peak,
        "peak_memory_bytes": {who: asdict(peak) for who, peak in peaks.items()},
        "seconds": {**{task: asdict(timing) for task, timing in timings.items()}, "preparation_per_epoch": preparation},
        "repetitions": recipe.repetitions,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def time_all(name: str, recipe: Recipe, benchmark: Path) -> tuple[dict[str, Timing], float]:
    """Timings of all tasks, and the seconds of our preparation that fall on one epoch of a preset's run."""
    workload = recipe.build(benchmark)
    Compute.of(workload.settings.unlearn.compute).start()
    ours, stock = Ours(workload), Stock(recipe.build(benchmark), recipe.batch_rows[0])
    answers = [_answer_only(asked) for asked in workload.asked]
    tasks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "unlearning_epoch": (ours.epoch, stock.epoch),
        "evaluation": (lambda: ours.scores(workload.asked), lambda: stock.scores(workload.asked)),
        "evaluation_of_answers": (lambda: ours.scores(answers), lambda: stock.scores(answers)),
        "statistics": (ours.statistics, stock.statistics),
    }
    timings = {}
    for task, (mine, plain) in tasks.items():
        timings[task] = timing = compare(mine, plain, stock, recipe)
        say(f"{name}, {task}: ours {timing.ours:.2f} s, plain {timing.plain:.2f} s, {_speedup(timing):.1f} times")
    epochs = load_settings(PRESET).unlearn.epochs
    return timings, stats.median([seconds(ours.prepare) for _ in range(recipe.repetitions)]) / epochs


def compare(ours: Callable[[], object], plain: Callable[[], object], stock: Stock, recipe: Recipe) -> Timing:
    """Find the plain implementation's best batch size, then run both by turns."""
    tried = {}
    for rows in recipe.batch_rows:
        stock.batch_rows = rows
        tried[rows] = seconds(plain)
    stock.batch_rows = min(tried, key=tried.__getitem__)
    ours()
    runs = [(seconds(ours), seconds(plain)) for _ in range(recipe.repetitions)]
    mine, other = zip(*runs, strict=True)
    return Timing(stats.median(mine), stats.median(other), stock.batch_rows, tried)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    return {
        "unsee": unsee.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _speedup(timing: Timing) -> float:
    return timing.plain / timing.ours


def _answer_only(asked: Asked) -> Asked:
    """The question with its right answer as the only option: one row per question in the plain implementation."""
    return replace(asked, question=replace(asked.question, options=(asked.question.answer,), answer_index=0))
