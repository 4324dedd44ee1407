"""The command line. Everything heavy is imported by the command that needs it, so that `--help` is at once there."""

import json
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unsee import cli_pipeline, cli_requests
from unsee.cli_comparing import compare, frontier, search, sweep, table1
from unsee.cli_options import (
    DEFAULT_STACK,
    Assignments,
    Base,
    Config,
    Forget,
    GivenBenchmark,
    Model,
    OnStack,
    Out,
    Preset,
    StackDirectory,
    directory_of,
    ids,
    requested,
    servers,
    stack_in,
    suited,
)
from unsee.errors import UserError
from unsee.explain import explain
from unsee.sections import FORGET_PERCENTS, ImportSettings, Shape
from unsee.settings import load_settings

if TYPE_CHECKING:
    from unsee.stack import Stack

DEBUG = "--debug"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
benchmark_app = typer.Typer(no_args_is_help=True, help="Make, import and look at benchmarks.")
model_app = typer.Typer(no_args_is_help=True, help="Look into models and deltas, and merge them.")
base_app = typer.Typer(no_args_is_help=True, help="The embedded base model.")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(model_app, name="model")
app.add_typer(base_app, name="base")
app.add_typer(cli_pipeline.app, name="pipeline")
stack_app = typer.Typer(no_args_is_help=True, help="Real S3 and MLflow servers on this machine.")
app.add_typer(stack_app, name="stack")
app.add_typer(cli_requests.app, name="requests")


@app.callback()
def unsee(debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks (anywhere on the line).")] = False) -> None:
    """Make a multimodal LLM forget what people look like, and only that."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Directory for summary.json, report.html and log.txt.")],
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    method: Annotated[str, typer.Option(help="Unlearning method, or a name under the preset's methods.")] = "vkd",
    model: Model = None,
    benchmark: GivenBenchmark = "",
    forget: Forget = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    stack: OnStack = False,
    runner: Annotated[
        Literal["process", "docker"], typer.Option(help="Where steps run: processes, or containers of the step image.")
    ] = "process",
) -> None:
    """Run the whole pipeline on this machine: vanilla, retrained, unlearned, evaluated, attacked, reported."""
    preset, assignments = suited(preset, model, config, assignments, method, benchmark, forget, must_fit=True)
    jobs, request = requested(preset, config, assignments, benchmark, forget)
    from unsee_pipelines import local, runners
    from unsee_pipelines.summary import final_table

    with servers(stack):
        outcome = local.run(jobs.unlearn_job(request, method, seed), out, runners.named(runner))
    typer.echo(f"\n{final_table(outcome)}")


for command in (compare, sweep, frontier, search, table1):
    app.command()(command)


@app.command()
def plan(
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    method: Annotated[str, typer.Option(help="Unlearning method, or a name under the preset's methods.")] = "vkd",
    model: Model = None,
    benchmark: GivenBenchmark = "",
    forget: Forget = None,
    step: Annotated[list[str] | None, typer.Option(help="Only this step; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes.")] = False,
    here: Annotated[
        bool, typer.Option("--here", help="For this machine; else 'auto' is taken for a GPU that has bfloat16.")
    ] = False,
) -> None:
    """What every step of a run needs: memory, bytes and FLOPs, from the model's configuration."""
    from unsee import plan

    preset, assignments = suited(preset, model, config, assignments, method, benchmark, forget, must_fit=False)
    settings = load_settings(preset, config=config, assignments=assignments, method=method, benchmark=benchmark)
    with redirect_stdout(sys.stderr):  # its progress: what is printed is the plan and nothing else
        found = plan.plan(settings, directory_of(benchmark), ids(forget), step or (), card=not here)
    typer.echo(json.dumps(found.facts(), indent=2) if as_json else plan.table(found))


@app.command()
def bench(out: Annotated[Path, typer.Option(help="JSON file to write.")]) -> None:
    """Measure speed and memory against the plain implementation, in one run."""
    from unsee import bench

    typer.echo(json.dumps(bench.main(out), indent=2))


@app.command()
def costs(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME…]",
            help="Methods, 'all', 'ablations', 'variants', or methods with settings of their own, e.g. the default's.",
        ),
    ] = "all,retrain,f_mask,vkd unlearn.blends=0,vkd_features",
) -> None:
    """Measure what an epoch of every method costs at equal images and questions (the paper's Table 2), in one run."""
    from unsee.bench import costs

    typer.echo(f"\n{costs.table(costs.main(out, methods))}")


@app.command()
def utilisation(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Unlearning steps.")] = 50,
) -> None:
    """Take a model of 157 million parameters through all phases, and measure how well they use the processor."""
    from unsee.bench import utilisation

    typer.echo(f"\n{utilisation.table(utilisation.main(out, steps))}")


@benchmark_app.command("generate")
def benchmark_generate(
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels and rows.")] = 0,
    preset: Annotated[str, typer.Option(help="Settings that say how many people and views.")] = "embedded",
    shape: Annotated[Shape, typer.Option(help="Ask for facts, or for captions and names.")] = "mllmu",
) -> None:
    """Draw fictitious people and ask about them."""
    from unsee.benchmark import embedded

    load_settings(preset).generated  # noqa: B018 (refuses a preset that imports, which has no shape to set)
    settings = load_settings(preset, assignments=[f"benchmark.shape={shape}"], seed=seed)
    _print_counts(embedded.generate(settings.generated, out).counts)


@benchmark_app.command("import")
def benchmark_import(
    layout: Annotated[
        Literal["mllmu", "clear", "folder"],
        typer.Argument(help="What SOURCE is: MLLMU-Bench, CLEAR, or a folder (people.jsonl and photographs)."),
    ],
    source: Annotated[
        str, typer.Argument(help="A directory; of MLLMU-Bench and CLEAR also the id on the Hugging Face hub.")
    ],
    out: Out,
    forget_percent: Annotated[
        int | None, typer.Option(help="Which of the benchmark's forget sets: 5, 10 or 15; of CLEAR 1, 5 or 10. [5]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which views are held out and the order of options.")] = 0,
) -> None:
    """Make a benchmark of a published one, or of your own photographs."""
    if layout == "folder":
        if forget_percent is not None:
            raise UserError("--forget-percent chooses a forget set of mllmu or clear; in a folder, split says who")
        from unsee.benchmark.folder import import_folder

        _print_counts(import_folder(Path(source), out, seed=seed).counts)
        return
    percent = 5 if forget_percent is None else forget_percent
    if percent not in (percents := FORGET_PERCENTS[layout]):
        raise UserError(f"--forget-percent {percent}: {layout} has {', '.join(map(str, percents))}; choose one of them")
    from unsee.benchmark.importing import import_published

    settings = ImportSettings(layout=layout, source=source, forget_percent=percent, seed=seed)
    _print_counts(import_published(settings, out).counts)


@benchmark_app.command("upload")
def benchmark_upload(directory: Path) -> None:
    """Bring a benchmark to the store that $UNSEE_STORE names, and print its address for pipelines."""
    from unsee.storage import transfer

    typer.echo(transfer.upload(directory, "benchmark", transfer.store_root()))


@benchmark_app.command("show")
def benchmark_show(
    directory: Path,
    out: Annotated[Path, typer.Option(help="Contact sheet to write.")] = Path("benchmark.png"),
) -> None:
    """Draw a contact sheet, print the counts and who is in it."""
    from unsee.benchmark import contact_sheet, schema

    benchmark = schema.load(directory)
    contact_sheet.draw(benchmark, out)
    _print_counts(benchmark.counts)
    splits = {question.entity_id: question.split or "unassigned" for question in benchmark.questions}
    for entity, name in benchmark.entities.items():
        typer.echo(f"{entity}\t{splits[entity]}\t{name}")
    typer.echo(f"contact sheet: {out}")


@model_app.command("describe")
def model_describe(path: Path) -> None:
    """What a model or delta holds and where it comes from."""
    from unsee.mllm import inspect

    typer.echo(inspect.describe(path))


@model_app.command("merge")
def model_merge(delta: Path, out: Out, base: Base = None) -> None:
    """Apply a delta to its base: a full model that plain transformers loads."""
    from unsee.mllm import inspect

    inspect.merge(delta, base, out)
    typer.echo(f"merged model: {out}")


@model_app.command("diff")
def model_diff(first: Path, second: Path, base: Base = None) -> None:
    """Which tensors differ between two models, and by how much."""
    from unsee.mllm import inspect

    typer.echo(inspect.diff(first, second, base))


@base_app.command("build")
def base_build(
    out: Out, family: Annotated[Literal["llava", "qwen2_vl"], typer.Option(help="What to build.")] = "llava"
) -> None:
    """Train the embedded base model from scratch; `vanilla.base` may name its directory."""
    from unsee.mllm import base_model

    base_model.build(out, family)
    typer.echo(f"base model: {out}")


@stack_app.command("up")
def stack_up(directory: StackDirectory = DEFAULT_STACK) -> None:
    """Start the servers, or those of them that do not run."""
    stack = stack_in(directory)
    stack.up()
    _print_status(stack)


@stack_app.command("down")
def stack_down(directory: StackDirectory = DEFAULT_STACK) -> None:
    """Stop the servers; their data stay."""
    for name in stack_in(directory).down():
        typer.echo(f"{name} stopped")


@stack_app.command("status")
def stack_status(directory: StackDirectory = DEFAULT_STACK) -> None:
    """Which servers run, and where."""
    _print_status(stack_in(directory))


def _print_status(stack: "Stack") -> None:
    servers = stack.status()
    if not servers:
        raise UserError(f"there is no stack in {stack.directory}; run unsee stack up")
    for name, (state, url) in servers.items():
        typer.echo(f"{name:8}{state:15}{url}")
    typer.echo(f"addresses and credentials: source {stack.directory / 'stack.env'}")


def _print_counts(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        typer.echo(f"{count:6}  {name}")


def main() -> None:
    """Entry point: one sentence instead of a traceback, exit code 2 for what the user can mend, 1 otherwise."""
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    try:
        app(arguments)
    except Exception as error:
        if DEBUG in sys.argv:
            traceback.print_exc()
        explanation = explain(error)
        typer.echo(f"unsee: {explanation.sentence}", err=True)
        sys.exit(explanation.code)
