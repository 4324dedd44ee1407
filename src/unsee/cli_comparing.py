"""The commands that compare methods, or one method with itself: each asks for the comparison DAG in its own way."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unsee.cli_options import (
    Assignments,
    ComparisonOut,
    Config,
    Forget,
    GivenBenchmark,
    OnStack,
    Out,
    Preset,
    Seeds,
    requested,
    servers,
)


def compare(
    out: ComparisonOut,
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME…]",
            help="'all', 'ablations', 'variants', or methods, e.g. 'vkd,vkd unlearn.beta=0' with settings of its own.",
        ),
    ] = "all",
    seeds: Seeds = 3,
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    benchmark: GivenBenchmark = "",
    forget: Forget = None,
    stack: OnStack = False,
) -> None:
    """Unlearn by several methods over several seeds, and compare them by the papers' tables."""
    jobs, request = requested(preset, config, assignments, benchmark, forget)
    with servers(stack):
        _compared(jobs.compare_job(request, jobs.expand(request, methods), range(seeds)), out)


def sweep(
    out: ComparisonOut,
    parameter: Annotated[str, typer.Option(metavar="KEY=VALUE,VALUE…", help="Setting, and its values.")],
    method: Annotated[str, typer.Option(help="Method, which settings of its own may follow.")] = "vkd",
    seeds: Seeds = 3,
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    benchmark: GivenBenchmark = "",
    forget: Forget = None,
    stack: OnStack = False,
) -> None:
    """Unlearn at several values of one setting (the paper's Figures 2 and 3)."""
    jobs, request = requested(preset, config, assignments, benchmark, forget)
    with servers(stack):
        _compared(jobs.sweep_job(request, method, parameter, range(seeds)), out)


def frontier(
    out: ComparisonOut,
    methods: Annotated[str, typer.Option(metavar="NAME[,NAME…]", help="Methods, or 'all'.")] = "all",
    seeds: Seeds = 3,
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    benchmark: GivenBenchmark = "",
    forget: Forget = None,
    stack: OnStack = False,
) -> None:
    """Unlearn by every method from weak to strong: how close it comes, and at what cost to others."""
    jobs, request = requested(preset, config, assignments, benchmark, forget)
    with servers(stack):
        _compared(jobs.frontier_job(request, methods, range(seeds)), out)


def search(
    out: ComparisonOut,
    methods: Annotated[str, typer.Option(metavar="NAME[,NAME…]", help="Methods, or 'all'.")] = "all",
    budget: Annotated[int, typer.Option(min=1, help="Candidates per method.")] = 6,
    seeds: Annotated[str, typer.Option(metavar="N[,N…]", help="Seeds that are never reported.")] = "100,101",
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    stack: OnStack = False,
) -> None:
    """Choose settings for every method, on the same budget, at seeds that are not reported."""
    jobs, request = requested(preset, config, assignments)
    with servers(stack):
        _compared(jobs.search_job(request, methods, budget, seeds), out)


def table1(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="What unsee compare wrote.")], out: Out
) -> None:
    """Put finished comparisons together as the paper's Table 1: a block per model family and benchmark."""
    from unsee.comparison import table1

    for block in table1.write(directories, out):
        typer.echo(f"{block.table.caption}: {block.headline}")
    typer.echo(f"table: {out / table1.PAGE}")


def _compared(job: Any, out: Path) -> None:
    from unsee_pipelines import local
    from unsee_pipelines.summary import comparison_table

    typer.echo(f"\n{comparison_table(local.run(job, out))}")
