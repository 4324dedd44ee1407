"""The benchmark of a run: drawn from a seed, imported, or a verified copy of a given directory."""

import shutil
from pathlib import Path

from unsee.benchmark import embedded, schema
from unsee.benchmark.importing import import_published
from unsee.sections import AnyBenchmark, ImportSettings
from unsee.storage import artifact
from unsee.tracking import Tracker


def run(source: AnyBenchmark | Path, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write a benchmark to `out`. Returns its counts.

    Args:
        source: what to draw or to import, or the directory to copy.

    Raises:
        UserError: what is given is incomplete, damaged or no sound benchmark, or the hub cannot be reached.
    """
    if isinstance(source, Path):
        benchmark = _copy(source, out)
    elif isinstance(source, ImportSettings):
        benchmark = import_published(source, out)
    else:
        benchmark = embedded.generate(source, out)
    settings = {} if isinstance(source, Path) else {"settings": source.model_dump()}
    tracker.log_params({"benchmark": benchmark.name, **settings})
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
