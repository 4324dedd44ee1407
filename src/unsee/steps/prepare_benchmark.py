"""The benchmark of a run: drawn from a seed, or a verified copy of a given one."""

import shutil
from pathlib import Path

from unsee.benchmark import embedded, schema
from unsee.settings import BenchmarkSettings
from unsee.storage import artifact
from unsee.storage.transfer import download
from unsee.tracking import Tracker


def run(source: BenchmarkSettings | str, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write a benchmark to `out`. Returns its counts.

    Args:
        source: what to draw, or what to copy: a directory, or an address in a store (s3://…).

    Raises:
        UserError: what is to be copied is incomplete, damaged or no sound benchmark, or its store cannot be used.
        Failed: a store that kept failing.
    """
    if isinstance(source, str):
        benchmark = _copy(source, out)
        tracker.log_params({"benchmark": benchmark.name})
    else:
        benchmark = embedded.generate(source, out)
        tracker.log_params({"benchmark": benchmark.name, "settings": source.model_dump()})
    return {name: float(count) for name, count in benchmark.counts.items()}


def _copy(source: str, out: Path) -> schema.Benchmark:
    if "://" in source:
        download(source, out, "benchmark")
        return schema.load(out)
    directory = Path(source)
    benchmark = schema.load(directory)
    manifest = artifact.read(directory, "benchmark", verify=False)
    with artifact.create(out, "benchmark", manifest.facts):
        for name in manifest.files:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, target)
    return benchmark
