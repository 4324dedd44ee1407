"""A published benchmark becomes a benchmark directory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unsee.benchmark import clear, mllmu
from unsee.benchmark.published import Tables
from unsee.benchmark.schema import Benchmark, Question, load, write_questions
from unsee.sections import ImportSettings, Shape
from unsee.storage import artifact

LAYOUTS: Mapping[Shape, Callable[[Tables, Path, ImportSettings], list[Question]]] = {
    "mllmu": mllmu.questions,
    "clear": clear.questions,
}


def import_published(settings: ImportSettings, out: Path) -> Benchmark:
    """Write the benchmark directory `out`. Nothing remains of it if anything is wrong.

    Raises:
        UserError: the source cannot be reached or read, or `out` holds something else.
        Problems: everything that is wrong with its rows.
    """
    facts: dict[str, Any] = {
        "name": f"{settings.layout}-{settings.forget_percent}",
        "source": "published",
        "shape": settings.layout,
        "settings": settings.model_dump(),
    }
    with artifact.create(out, "benchmark", facts) as directory:
        tables = Tables(settings.source)
        questions = LAYOUTS[settings.layout](tables, directory, settings)
        tables.require_sound()
        write_questions(directory, questions)
        facts["counts"] = Benchmark(directory, facts["name"], tuple(questions)).counts
    return load(out, verify=False)
