"""unsee requests: take deletion requests in, answer them on this machine, tell what became of them."""

import datetime
import json
import uuid
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from unsee.cli_options import Assignments, Config, GivenBenchmark, Preset, requested
from unsee.environment import environment
from unsee.errors import UserError
from unsee.requests import inbox, turn
from unsee.requests.journal import Journal
from unsee.storage import artifact
from unsee.storage.transfer import STORE

app = typer.Typer(no_args_is_help=True, help="Deletion requests: who asked to be forgotten, and what became of it.")

MENDS = {
    "": "give either --entities or --image",
    "request_id": "--id takes letters, digits, '.', '_' and '-', 100 at most, the first a letter or a digit",
    "entities": "--entities takes ids of at most 200 characters",
    "reason": "--reason takes at most 1000 characters",
}

StoreAddress = Annotated[
    str, typer.Option("--store", envvar=STORE, help="Store of the requests: s3://bucket/prefix or file:///directory.")
]


@app.command()
def add(
    store: StoreAddress,
    entities: Annotated[str, typer.Option(metavar="ID[,ID…]", help="People, by their ids in the benchmark.")] = "",
    images: Annotated[list[Path] | None, typer.Option("--image", help="A photograph of them; may be repeated.")] = None,
    reason: Annotated[str, typer.Option(help="Why, as it is to be kept.")] = "",
    request_id: Annotated[str, typer.Option("--id", help="Id of the request; drawn at random without it.")] = "",
) -> None:
    """Put a request into the inbox: people by id, or by photographs, of which only the sha256 is kept."""
    if missing := [str(path) for path in images or () if not path.is_file()]:
        raise UserError(f"--image {missing[0]} is no file; give the path of a photograph")
    try:
        request = inbox.DeletionRequest(
            request_id=request_id or uuid.uuid4().hex,
            entities=tuple(stripped for part in entities.split(",") if (stripped := part.strip())),
            images=tuple(artifact.file_digest(path) for path in images or ()),
            reason=reason,
            received_at=datetime.datetime.now(datetime.UTC),
        )
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        raise UserError(MENDS[str(place[0]) if place else ""]) from None
    typer.echo(f"{request.request_id}\t{inbox.add(store, request)}")


@app.command("list")
def list_requests(store: StoreAddress) -> None:
    """Every request: its id, what became of it, when it came in."""
    found = turn.Turn.of(Journal(store).read())
    for name, file in inbox.received(store).items():
        came = "" if file.request is None else file.request.received_at.isoformat(timespec="seconds")
        typer.echo(f"{name}\t{_state(found, name)}\t{came}")


@app.command()
def show(store: StoreAddress, request_id: Annotated[str, typer.Argument()]) -> None:
    """A request, and every record of the journal about it."""
    files = inbox.received(store)
    if request_id not in files:
        raise UserError(f"{store} has no request {request_id}; unsee requests list shows them")
    file, records = files[request_id], Journal(store).read()
    typer.echo(file.problem if file.request is None else file.request.model_dump_json(indent=2))
    for record in (record for record in records if record.event.is_about(request_id)):
        typer.echo(f"\nrecord {record.sequence}, sha256 {record.digest}")
        typer.echo(record.model_dump_json(indent=2))


@app.command()
def verify(store: StoreAddress) -> None:
    """Check that nobody changed or dropped a record, a claimed request or a certificate; says where it is broken."""
    records = turn.verify(store)
    head = f", the last with sha256 {records[-1].digest}" if records else ""
    typer.echo(f"{len(records)} records, unbroken{head}")


@app.command()
def release(store: StoreAddress, run: Annotated[str, typer.Argument(help="The run's id.")]) -> None:
    """Tell that a run has ended that could not tell so itself: its requests are open again."""
    if not turn.end(store, run, by="unsee requests release"):
        raise UserError(f"it is not the turn of run {run}; unsee requests list shows whose it is")


@app.command()
def answer(
    store: StoreAddress,
    out: Annotated[Path, typer.Option(help="Directory for answers.json, answers.html and log.txt.")],
    preset: Preset = "embedded",
    config: Config = None,
    assignments: Assignments = None,
    method: Annotated[str, typer.Option(help="Unlearning method, or a name under the preset's methods.")] = "vkd",
    benchmark: GivenBenchmark = "",
    reference: Annotated[bool, typer.Option("--reference", help="Build a model that never saw them, too.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Take on requests that were not honoured.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
) -> None:
    """Run the continual pipeline on this machine: unlearn what is open, judge, certify, record."""
    jobs, request = requested(preset, config, assignments, benchmark)
    from unsee_pipelines import local

    run = f"{out.resolve().name}-{uuid.uuid4().hex[:8]}"
    job = jobs.continual_job(request, method, seed, reference=reference, retry=retry)
    try:
        with environment({STORE: store, turn.RUN: run}):
            local.run(job, out)
    finally:
        turn.end(store, run, by="unsee requests answer")
    found = turn.Turn.of(Journal(store).read())
    given = {name: each for name, each in found.answers.items() if each.run == run}
    for name, each in given.items():
        typer.echo("\t".join(filter(None, (name, each.outcome, each.reason, each.certificate))))
    if (out / "answers.json").exists():
        typer.echo(f"\n{json.loads((out / 'answers.json').read_text())['headline']}: {out / 'answers.html'}")
    if not given:
        typer.echo("no open requests")


def _state(found: turn.Turn, name: str) -> str:
    if name in found.claimed:
        return f"claimed by run {found.run}"
    return found.answers[name].outcome if name in found.answers else "open"
