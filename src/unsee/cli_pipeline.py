"""The commands for pipelines on Kubeflow Pipelines."""

from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from unsee.cli_options import require_pipelines

if TYPE_CHECKING:
    from unsee_pipelines.cluster import Cluster
    from unsee_pipelines.compile import Fixed

app = typer.Typer(no_args_is_help=True, help="The pipelines as Kubeflow Pipelines takes them.")

Name = Annotated[str, typer.Argument(help="Name of a pipeline.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Pipelines; all if none is named.")]
Image = Annotated[str | None, typer.Option(help="Image of the steps, best with its digest.")]
Hours = Annotated[int | None, typer.Option(min=1, help="Hours that one attempt at a step may take.")]
SharedMemory = Annotated[
    str | None, typer.Option(metavar="QUANTITY", help="/dev/shm of a step that holds a model, e.g. 1Gi.")
]
Parallelism = Annotated[
    int | None, typer.Option(min=1, help="Seeds of a comparison at a time, and methods at a time of each.")
]
Host = Annotated[str, typer.Option(envvar="UNSEE_KFP_HOST", help="Address of Kubeflow Pipelines.")]
Namespace = Annotated[
    str | None, typer.Option(envvar="UNSEE_KFP_NAMESPACE", help="Namespace, where it serves several users.")
]
TokenFile = Annotated[Path | None, typer.Option(envvar="UNSEE_KFP_TOKEN_FILE", help="File that holds a bearer token.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the run; may be repeated.")
]
Version = Annotated[str | None, typer.Option(help="Version, if not the newest.")]


@app.command("compile")
def compile_(
    image: Image = None,
    hours: Hours = None,
    shared_memory: SharedMemory = None,
    parallelism: Parallelism = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the YAML files.")] = None,
) -> None:
    """Compile the pipelines to the YAML that Kubeflow Pipelines takes."""
    fixed = _fixed(image, hours, shared_memory, parallelism)
    from unsee_pipelines.compile import COMPILED, compile_all

    for path in compile_all(out or COMPILED, fixed).values():
        typer.echo(path)


@app.command()
def upload(
    names: Names = None,
    image: Image = None,
    hours: Hours = None,
    shared_memory: SharedMemory = None,
    parallelism: Parallelism = None,
    host: Host = "",
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Compile pipelines and upload those that changed, each as a new version."""
    fixed = _fixed(image, hours, shared_memory, parallelism)
    from unsee_pipelines.compile import compile_all

    with TemporaryDirectory() as folder, _cluster(host, namespace, token_file) as cluster:
        for name, path in compile_all(Path(folder), fixed, names or ()).items():
            version, new = cluster.upload(name, path)
            typer.echo(f"{name} {version} {'uploaded' if new else 'is already there'}")


@app.command()
def submit(
    name: Name,
    parameters: Parameters = None,
    version: Version = None,
    host: Host = "",
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Start a run of an uploaded pipeline."""
    with _cluster(host, namespace, token_file) as cluster:
        run = cluster.submit(name, parameters or (), version)
    typer.echo(f"{run.display_name} started")


@app.command()
def schedule(
    name: Name,
    cron: Annotated[str, typer.Option(metavar='"SEC MIN HOUR DOM MON DOW"', help="When it runs.")],
    parameters: Parameters = None,
    version: Version = None,
    host: Host = "",
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Run an uploaded pipeline again and again, in the place of the schedule it has."""
    require_pipelines()
    from unsee_pipelines.arguments import require_cron

    require_cron(cron)
    with _cluster(host, namespace, token_file) as cluster:
        new = cluster.schedule(name, cron, parameters or (), version)
    typer.echo(f"{name} {'scheduled' if new else 'is already scheduled'}: {cron}")


@app.command()
def unschedule(name: Name, host: Host = "", namespace: Namespace = None, token_file: TokenFile = None) -> None:
    """Take a pipeline's schedule away; runs that have begun go on."""
    with _cluster(host, namespace, token_file) as cluster:
        removed = cluster.unschedule(name)
    typer.echo(f"{name} {'unscheduled' if removed else 'has no schedule'}")


@app.command()
def status(names: Names = None, host: Host = "", namespace: Namespace = None, token_file: TokenFile = None) -> None:
    """What is uploaded and scheduled, and how the last runs went."""
    with _cluster(host, namespace, token_file) as cluster:
        states = cluster.status(names or ())
    from unsee_pipelines.status import tables

    typer.echo(tables(states))


def _fixed(image: str | None, hours: int | None, shared_memory: str | None, parallelism: int | None) -> "Fixed":
    require_pipelines()
    from unsee_pipelines.compile import Fixed

    given = {"image": image, "hours": hours, "shared_memory": shared_memory, "parallelism": parallelism}
    return Fixed(**{name: value for name, value in given.items() if value is not None})


def _cluster(host: str, namespace: str | None, token_file: Path | None) -> "AbstractContextManager[Cluster]":
    require_pipelines()
    from unsee_pipelines.cluster import connected

    return connected(host, namespace, token_file)
