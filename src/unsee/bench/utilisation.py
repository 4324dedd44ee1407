"""`unsee utilisation`: a mid-size model through all phases on this processor, and how well they use it.

Model FLOPs utilisation of a phase: FLOPs of its matrix products, none of them computed twice, per second, over the peak
measured just before. Everything besides matrix products takes time and counts as nothing. The same epoch is then run
the way the reference implementations do it (`stock` with `unlearn.scope` full): a row per question with its own copy of
the image, a live teacher, questions by name, gradients and optimiser state of all weights.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unsee.bench.flops import Phase, counted, matmul_peak, measured
from unsee.bench.measure import seconds, versions
from unsee.bench.ours import collect_statistics, with_statistics
from unsee.bench.stock import Stock
from unsee.bench.workloads import MIDSIZE, Recipe, Workload
from unsee.compute import Compute
from unsee.errors import UserError
from unsee.evaluation.asking import Examiner
from unsee.mllm.families import Mllm
from unsee.progress import say
from unsee.storage.artifact import write_json
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.trainer import Unlearning

Report = dict[str, Any]


def main(out: Path, steps: int, recipe: Recipe = MIDSIZE) -> Report:
    """Measure all phases, with so many unlearning steps, and write the figures to `out`, JSON.

    Raises:
        UserError: `out` is a directory, before anything is measured.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a directory; give a file")
    with tempfile.TemporaryDirectory() as directory:
        benchmark = Path(directory) / "benchmark"
        workload = recipe.build(benchmark, f"unlearn.least_steps={steps}")
        Compute.of(workload.settings.unlearn.compute).start()
        peak = matmul_peak()
        say(f"peak: {peak / 1e9:.0f} GFLOP/s in float32 on {torch.get_num_threads()} threads")
        phases, epochs = _phases(workload)
        reference = Stock(recipe.build(benchmark, "unlearn.scope=full"), recipe.batch_rows[0])
        plain = seconds(reference.epoch)
    ours = (phases["preparation"] + phases["unlearning"]) / epochs
    report = {
        "parameters": _parameters(workload.mllm),
        "image_tokens": workload.mllm.image_tokens,
        "unlearning_steps": steps,
        "peak_flops_per_second": peak,
        "phases": {name: phase.figures(peak) for name, phase in phases.items()},
        "seconds_per_epoch": {"ours": ours.seconds, "reference": plain},
        "epoch_speedup": plain / ours.seconds,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    write_json(out, report)
    return report


def _phases(workload: Workload) -> tuple[dict[str, Phase], float]:
    """Every phase by name in the order they come, and how many epochs the unlearning has."""
    work, settings, phases = workload.work(), workload.settings, {}
    phases["statistics"], statistics = measured(lambda: collect_statistics(work, settings.statistics))
    phases["pruning"], pruned = measured(lambda: with_statistics(work, statistics))
    phases["preparation"], unlearning = measured(lambda: Unlearning.of(pruned, Checkpoints(), NoTracker()))
    phases["unlearning"] = _unlearned(unlearning)
    of = settings.evaluation
    examiner = Examiner(work.mllm, work.bank.pixels, of.batch_images, of.choice, work.bank.frame)
    spoken = [asked for asked in workload.asked if asked.modality in ("vqa", "qa")]
    phases["option scores"], _ = measured(lambda: examiner.scores(workload.asked))
    phases["answers"], _ = measured(lambda: examiner.answers(spoken))
    phases["evaluation"] = phases["option scores"] + phases["answers"]
    return phases, unlearning.steps / unlearning.steps_per_epoch


def _unlearned(unlearning: Unlearning) -> Phase:
    """All steps, after an epoch that is counted: every epoch computes the same."""
    epoch = unlearning.settings.model_copy(update={"epochs": 1, "least_steps": 1})
    flops = counted(replace(unlearning, settings=epoch).run)
    return Phase(flops * unlearning.steps / unlearning.steps_per_epoch, seconds(unlearning.run))


def table(report: Report) -> str:
    """The figures of every phase, and what an epoch takes in both ways."""
    epoch = report["seconds_per_epoch"]
    return "\n".join(
        [
            f"{'':15}{'seconds':>9}{'TFLOP':>8}{'utilisation':>13}",
            *(
                f"{name:15}{of['seconds']:9.2f}{of['flops'] / 1e12:8.2f}{of['utilisation']:13.1%}"
                for name, of in report["phases"].items()
            ),
            f"An epoch of unlearning takes {epoch['ours']:.1f} s, as the reference implementations do it "
            f"{epoch['reference']:.1f} s: {report['epoch_speedup']:.1f} times as long.",
        ]
    )


def _parameters(mllm: Mllm) -> dict[str, int]:
    """How many there are, of the parts and in all."""
    parts = {"tower": mllm.tower, "projector": mllm.projector, "llm": mllm.language_model, "all": mllm.model}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
