"""`unsee costs`: what an epoch of every method costs at equal images and questions, the paper's Table 2.

`unsee bench` measures one method in two implementations; this measures all methods in one, the packed trainer, on the
same workloads, one method after the other and each in a process of its own, whose peak memory is then the method's.
Settings are the preset's but for what a step takes, which is the workload's: forget and retain portraits, people by
name, and blends in proportion; statistics take as many portraits at a time as a step does. So "vkd" is the method as it
is run; in "vkd unlearn.blends=0" L_VKD is taken on the retain portraits, as in the paper, and no other image is looked
at; "vkd_features" looks at blends and asks nothing about retain portraits. "f_mask" is the paper's "w/o VKD".
"""

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from unsee.bench.ours import collect_statistics, with_statistics
from unsee.bench.workloads import PRESET, RECIPES, Recipe, Workload
from unsee.benchmark import embedded
from unsee.comparison import paper
from unsee.comparison.candidates import expand
from unsee.comparison.summary import OURS
from unsee.compute import Compute
from unsee.errors import UserError
from unsee.memory import peak_resident
from unsee.mllm.rows import Portraits, Rows
from unsee.progress import say
from unsee.settings import OWN_SECTIONS, Settings, load_settings, method_entries
from unsee.storage.artifact import write_json
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Work, names
from unsee.unlearning.methods import vkd
from unsee.unlearning.trainer import Unlearning, batch

EPOCHS = 7
"""The first warms up and the last has no end on the trainer's clock: the others are measured."""
SHARED = ("epochs", "least_steps", "batch_forget_images", "batch_retain_images", "batch_people")
"""Settings of `unlearn` that are the same for every method that is measured."""

Report = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Cost:
    """What a method costs; None where there is nothing to measure, and then the `reason`.

    seconds_per_epoch: median of `seconds_of_epochs`. seconds_to_prepare: everything before the first step, of all
    versions of the portraits: caches of frozen layers, what the vanilla model says as teacher or reference, saliency
    mask and pruning, and the statistics these are made from. peak_memory_mb: of the process, of which
    loaded_memory_mb were taken once model and benchmark were there. images_per_epoch: portraits that
    `questions_per_epoch` are asked about; a portrait counts as often as it is seen. text_rows_per_epoch: people asked
    about by name. blends_per_epoch: further images that are looked at and not asked about.
    """

    seconds_per_epoch: float | None = None
    seconds_of_epochs: tuple[float, ...] = ()
    seconds_to_prepare: float | None = None
    peak_memory_mb: float | None = None
    loaded_memory_mb: float | None = None
    trainable_parameters: int | None = None
    images_per_epoch: int | None = None
    questions_per_epoch: int | None = None
    text_rows_per_epoch: int | None = None
    blends_per_epoch: int | None = None
    reason: str | None = None


def main(out: Path, methods: str, recipes: Mapping[str, Recipe] = RECIPES) -> Report:
    """Measure every method on every workload and write the figures to `out` as they come.

    JSON: workload -> method -> `Cost`.

    Args:
        methods: names separated by commas, each with settings of its own behind it if need be; see `expand`.

    Raises:
        UserError: an unknown method, impossible settings, or `out` is a directory, before anything is measured.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a directory; give a file")
    named = expand(methods, names(), method_entries(PRESET))
    for recipe in recipes.values():
        for method in named:
            settings_of(recipe, method)
    report: Report = {}
    for workload, recipe in recipes.items():
        with TemporaryDirectory() as directory:
            benchmark = Path(directory) / "benchmark"
            embedded.generate(recipe.settings().generated, benchmark)
            report[workload] = {}
            for method in named:
                report[workload][method] = _apart(workload, recipe, method, benchmark)
                write_json(out, report)
    return report


def settings_of(recipe: Recipe, method: str) -> Settings:
    """The method's settings in a workload.

    Raises:
        UserError: there is no such method, it has no such setting, or all that are measured share the setting.
    """
    name, *own = method.split()
    for setting in (assignment.partition("=")[0] for assignment in own):
        section, _, of_section = setting.partition(".")
        if section not in OWN_SECTIONS or of_section in SHARED:
            raise UserError(f"{method}: {setting} is the same for all methods whose costs are compared; leave it out")
    settings = recipe.settings(*own, method=name)
    unlearn = settings.unlearn.model_copy(update={"epochs": EPOCHS, "least_steps": 0})
    if isinstance(unlearn, vkd.Settings):
        blends = -(-unlearn.blends * unlearn.batch_retain_images // load_settings(PRESET).unlearn.batch_retain_images)
        unlearn = unlearn.model_copy(update={"blends": blends})
    statistics = settings.statistics.model_copy(update={"batch_images": unlearn.micro_batch_images})
    return settings.model_copy(update={"unlearn": unlearn, "statistics": statistics})


def cost_of(recipe: Recipe, method: str, benchmark: Path) -> Cost:
    """What a method costs in this process; the workload's benchmark is at `benchmark`."""
    workload = recipe.with_settings(benchmark, settings_of(recipe, method))
    Compute.of(workload.settings.unlearn.compute).start()
    loaded = peak_resident() / 1e6
    started = time.perf_counter()
    try:
        unlearning = Unlearning.of(_work(workload), Checkpoints(), NoTracker(), tells=False)
    except UserError as error:
        return Cost(reason=str(error))
    prepared = time.perf_counter() - started
    unlearning.run()
    starts = unlearning.clock[:: unlearning.steps_per_epoch]
    epochs = tuple(after - before for before, after in pairwise(starts[1:]))
    cost = Cost(
        seconds_of_epochs=epochs,
        seconds_to_prepare=prepared,
        peak_memory_mb=peak_resident() / 1e6,
        loaded_memory_mb=loaded,
    )
    if not epochs:
        return replace(cost, trainable_parameters=0, reason=f"{method} trains nothing: it has no epochs")
    trained = sum(parameter.numel() for parameter in unlearning.parameters.values())
    return replace(cost, seconds_per_epoch=median(epochs), trainable_parameters=trained, **_per_epoch(unlearning))


def table(report: Report) -> str:
    """The figures of every workload, and the paper's minutes and gigabytes beside them."""
    return "\n\n".join("\n".join(_lines(workload, costs)) for workload, costs in report.items())


def _apart(workload: str, recipe: Recipe, method: str, benchmark: Path) -> dict[str, Any]:
    """`cost_of` in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        cost = pool.submit(cost_of, recipe, method, benchmark).result()
    say(f"{workload}, {method}: {cost.reason or f'{cost.seconds_per_epoch:.2f} s per epoch'}")
    return asdict(cost)


def _work(workload: Workload) -> Work:
    """With the statistics of the vision part that the pipeline collects before, where that is what is trained."""
    work = workload.work()
    if work.settings.scope == "full":
        return work
    return with_statistics(work, collect_statistics(work, workload.settings.statistics))


def _per_epoch(unlearning: Unlearning) -> dict[str, Any]:
    """What goes through the model in the first epoch; terms on the same rows share it."""
    shown = Counter(images_per_epoch=0, questions_per_epoch=0, text_rows_per_epoch=0, blends_per_epoch=0)
    steps = unlearning.steps_per_epoch
    for rows, once in {id(term.rows): (term.rows, term.forgets) for term in unlearning.terms[0]}.values():
        keys = [key for step in range(steps) for key in batch(rows, unlearning.settings.seed, step, steps, once=once)]
        if isinstance(rows, Portraits):
            shown["images_per_epoch"] += len(keys)
            shown["questions_per_epoch"] += sum(len(rows.rows[key]) for key in keys)
        else:
            shown["text_rows_per_epoch" if isinstance(rows, Rows) else "blends_per_epoch"] += len(keys)
    return dict(shown)


def _lines(workload: str, costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    width = max(len(name) for name in (workload, *costs)) + 2
    titles = f"{'s/epoch':>9}{'(from–to)':>17}{'× vkd':>8}{'prepare, s':>12}{'peak, MB':>10}{'parameters':>12}"
    titles += f"{'images':>8}{'questions':>11}{'by name':>9}{'blends':>8}  in the paper"
    return [f"{workload:{width}}{titles}", *(f"{name:{width}}{_line(name, costs)}" for name in costs)]


def _line(name: str, costs: Mapping[str, Mapping[str, Any]]) -> str:
    cost = costs[name]
    if cost["seconds_per_epoch"] is None:
        return f"{'–':>9}  {cost['reason']}"
    seconds, epochs = cost["seconds_per_epoch"], cost["seconds_of_epochs"]
    ours = costs.get(OURS, {}).get("seconds_per_epoch")
    printed = paper.efficiency().row(name.split()[0])
    return (
        f"{seconds:9.2f}{f'({min(epochs):.2f}–{max(epochs):.2f})':>17}{f'{seconds / ours:.2f}' if ours else '–':>8}"
        f"{cost['seconds_to_prepare']:12.1f}{cost['peak_memory_mb']:10.0f}{cost['trainable_parameters']:12}"
        f"{cost['images_per_epoch']:8}{cost['questions_per_epoch']:11}{cost['text_rows_per_epoch']:9}"
        f"{cost['blends_per_epoch']:8}"
        + (f"  {printed['minutes']} min, {printed['gigabytes']} GB" if printed else "  –")
    )
