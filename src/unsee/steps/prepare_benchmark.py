"""The benchmark of a run: drawn from a seed, or a verified copy of a given directory."""

import shutil
from pathlib import Path

from unsee.benchmark import embedded, schema
from unsee.sections import BenchmarkSettings
from unsee.storage import artifact
from unsee.tracking import Tracker


def run(source: BenchmarkSettings | Path, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write a benchmark to `out`. Returns its counts.

    Args:
        source: what to draw, or the directory to copy.

    Raises:
        UserError: the directory is incomplete, damaged or no sound benchmark.
    """
    if isinstance(source, Path):
        benchmark = _copy(source, out)
        tracker.log_params({"benchmark": benchmark.name})
    else:
        benchmark = embedded.generate(source, out)
        tracker.log_params({"benchmark": benchmark.name, "settings": source.model_dump()})
    return {name: float(count) for name, count in benchmark.counts.items()}


def _copy(source: Path, out: Path) -> schema.Benchmark:
    benchmark = schema.load(source)
    manifest = artifact.read(source, "benchmark", verify=False)
    with artifact.create(out, "benchmark", manifest.facts):
        for name in manifest.files:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
    return benchmark
