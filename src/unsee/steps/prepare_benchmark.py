"""The benchmark of a run: drawn from a seed, imported, or a verified copy of a given one."""

from pathlib import Path

from unsee.benchmark import embedded, given
from unsee.benchmark.importing import import_published
from unsee.sections import AnyBenchmark, ImportSettings
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
        benchmark = given.fetch(source, out)
    elif isinstance(source, ImportSettings):
        benchmark = import_published(source, out)
    else:
        benchmark = embedded.generate(source, out)
    settings = {} if isinstance(source, str) else {"settings": source.model_dump()}
    tracker.log_params({"benchmark": benchmark.name, **settings})
    return {name: float(count) for name, count in benchmark.counts.items()}
