"""What several commands take, and what they make of it."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unsee.environment import environment
from unsee.errors import UserError

if TYPE_CHECKING:
    from unsee.stack import Stack

Out = Annotated[Path, typer.Option(help="Directory to write to.")]
ComparisonOut = Annotated[Path, typer.Option(help="Directory for comparison.json, comparison.csv and the page.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")]
Base = Annotated[Path | None, typer.Option(help="The model a delta was made from, if it is not where it was.")]


Preset = Annotated[
    str,
    typer.Option(
        help="Settings to start from: embedded, llava-1.5-7b or qwen2-vl-7b with -mllmu or -clear, or auto (run, plan)."
    ),
]
Model = Annotated[str | None, typer.Option(help="With --preset auto: a model folder or hub id of a known family.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of the preset's shape with settings to change.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting to change; may be repeated.")
]
GivenBenchmark = Annotated[
    str,
    typer.Option(metavar="DIR|ADDRESS", help="Benchmark, a directory or an address (s3://…); else the preset's own."),
]
Forget = Annotated[
    str | None, typer.Option(metavar="ID[,ID…]", help="Who is to be forgotten, if not whom the benchmark suggests.")
]

OnStack = Annotated[
    bool, typer.Option("--stack", help="Track in, and keep everything in, the servers of unsee stack up.")
]
StackDirectory = Annotated[Path, typer.Option("--dir", help="Directory of the servers' data.")]
DEFAULT_STACK = Path("runs/stack")


def requested(
    preset: str,
    config: Path | None,
    assignments: list[str] | None,
    benchmark: str = "",
    forget: str | None = None,
) -> tuple[ModuleType, Any]:
    """The module that makes jobs, and what was asked of it."""
    require_pipelines()
    from unsee_pipelines import jobs

    return jobs, jobs.Request(preset, config, tuple(assignments or ()), benchmark, ids(forget))


def suited(
    preset: str,
    model: str | None,
    config: Path | None,
    assignments: list[str] | None,
    method: str,
    benchmark: str,
    forget: str | None,
    *,
    must_fit: bool,
) -> tuple[str, list[str]]:
    """Preset and assignments, as they are or, of the preset auto, such as suit the model; must_fit: and this machine's
    memory."""
    if preset != "auto":
        if model is not None:
            raise UserError(f"--model {model} is for --preset auto; elsewhere write --set vanilla.base={model}")
        return preset, assignments or []
    directory = directory_of(benchmark)
    if model is None or directory is None:
        raise UserError("--preset auto needs --model FOLDER_OR_HUB_ID and --benchmark DIRECTORY")
    from unsee.plan.auto import Asked

    asked = Asked(model, directory, config, assignments or (), method, ids(forget))
    if must_fit:
        return asked.fitting()
    near, own = asked.preset()
    return near, [*own, *asked.assignments]


def directory_of(benchmark: str) -> Path | None:
    """The directory that --benchmark gives, if it gives one: a plan looks at pictures before anything is fetched.

    Raises:
        UserError: it is an address.
    """
    from unsee.benchmark.given import is_address

    if is_address(benchmark):
        raise UserError(f"--benchmark {benchmark} is an address, and a plan looks at pictures here; give its directory")
    return Path(benchmark) if benchmark else None


def stack_in(directory: Path) -> "Stack":
    """The servers of a directory, running or not; raises UserError where they are not installed."""
    if importlib.util.find_spec("psutil") is None:
        raise UserError("the servers are not installed; run pip install 'unsee[stack]'")
    from unsee.stack import Stack

    return Stack(directory)


@contextmanager
def servers(stack: bool) -> Iterator[None]:
    """Use the servers of the running stack inside the block, if that is wanted.

    Raises:
        UserError: it does not run.
    """
    if not stack:
        yield
        return
    running = stack_in(DEFAULT_STACK)
    running.require_running()
    with environment(running.environment()):
        yield


def require_pipelines() -> None:
    """Raises UserError where Kubeflow Pipelines is not installed."""
    if importlib.util.find_spec("kfp") is None:
        raise UserError("Kubeflow Pipelines is not installed; run pip install 'unsee[pipelines]'")


def ids(forget: str | None) -> tuple[str, ...]:
    """Who is named; nobody where nothing is given."""
    if forget is None:
        return ()
    ids = tuple(stripped for part in forget.split(",") if (stripped := part.strip()))
    if not ids:
        raise UserError(f"--forget {forget!r} names nobody; write e.g. --forget P001,P002, or leave it out")
    return ids
