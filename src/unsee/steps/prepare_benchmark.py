"""The benchmark of a run: drawn from a seed, imported, or a verified copy of a given one."""

import shutil
from pathlib import Path

from unsee.benchmark import embedded, schema
from unsee.benchmark.importing import import_published
from unsee.sections import AnyBenchmark, ImportSettings
from unsee.storage import artifact
from unsee.storage.transfer import download
from unsee.tracking import Tracker


def run(source: AnyBenchmark | str, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write a benchmark to `out`. Returns its counts.

    Args:
        source: what to draw or to import, or what to copy: a directory, or an address in a store (s3://…).

    Raises:
        UserError: what is given is incomplete, damaged or no sound benchmark, or its store or the hub cannot be used.
        Failed: a store that kept failing.
    """
    if isinstance(source, str):
        benchmark = _copy(source, out)
    elif isinstance(source, ImportSettings):
        benchmark = import_published(source, out)
    else:
        benchmark = embedded.generate(source, out)
    settings = {} if isinstance(source, str) else {"settings": source.model_dump()}
    tracker.log_params({"benchmark": benchmark.name, **settings})
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
