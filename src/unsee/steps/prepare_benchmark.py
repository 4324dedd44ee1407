"""The benchmark of a run: drawn from a seed, or a verified copy of a given directory."""

import shutil
from pathlib import Path

from unsee.benchmark import embedded, schema
from unsee.settings import BenchmarkSettings
from unsee.storage import artifact
from unsee.tracking import Tracker


def run(settings: BenchmarkSettings, source: Path | None, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write a benchmark to `out`. Returns its counts. Raises UserError if `source` is incomplete or damaged."""
    benchmark = embedded.generate(settings, out) if source is None else _copy(source, out)
    tracker.log_params({"benchmark": benchmark.name, "settings": settings.model_dump() if source is None else {}})
    return {name: float(count) for name, count in benchmark.counts.items()}


def _copy(source: Path, out: Path) -> schema.Benchmark:
    manifest = artifact.read(source, "benchmark")
    with artifact.create(out, "benchmark", manifest.facts):
        for name in manifest.files:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
    return schema.load(out)
