"""Step match_requests: find the people whom the claimed requests are about, and answer those about nobody at once."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unsee.errors import UserError
from unsee.requests.inbox import Received, received
from unsee.requests.journal import Answered, Journal
from unsee.requests.matching import Match, People
from unsee.requests.turn import Turn, answer, require_unchanged
from unsee.storage import artifact
from unsee.tracking import Tracker


def run(root: str, run_id: str, benchmark: Path, out: Path, tracker: Tracker) -> list[str]:
    """Write `batch.json` to `out`: the requests to be answered with a model, and their people.

    Returns:
        Everybody to be forgotten, in the benchmark's order: the people of these requests and of all earlier ones. Empty
        if the claimed requests are about nobody.

    Raises:
        UserError: it is not this run's turn, a request was changed after it was claimed, or the benchmark lacks
            somebody who asked earlier.
    """
    turn, files = Turn.of(Journal(root).read()), received(root)
    turn.require(run_id)
    claimed = {name: require_unchanged(name, digest, files) for name, digest in turn.claimed.items()}
    people = People.of(benchmark)
    matches = {name: people.match(file.request) for name, file in claimed.items() if file.request}
    answer(root, run_id, [*_invalid(run_id, claimed), *_unmatched(run_id, matches)])
    found = {name: match for name, match in matches.items() if match.people}
    _require_known(people, sorted(turn.people))
    everybody = turn.people.union(*(match.people for match in found.values())) if found else set()
    with artifact.create(out, "batch", {"run": run_id, "requests": list(found)}):
        requests = {name: file.request.model_dump(mode="json") for name, file in claimed.items() if file.request}
        batch = {name: {"request": requests[name], **asdict(match)} for name, match in found.items()}
        artifact.write_json(out / "batch.json", batch)
    tracker.log_params({"requests": list(claimed), "matched": list(found), "people": len(everybody)})
    return [person for person in people.benchmark.entities if person in everybody]


def _invalid(run_id: str, claimed: dict[str, Received]) -> list[Answered]:
    return [
        Answered(run=run_id, request_id=name, outcome="invalid", reason=file.problem)
        for name, file in claimed.items()
        if file.request is None
    ]


def _unmatched(run_id: str, matches: dict[str, Match]) -> list[Answered]:
    return [
        Answered(run=run_id, request_id=name, outcome="unmatched", reason="; ".join(match.missing))
        for name, match in matches.items()
        if not match.people
    ]


def _require_known(people: People, earlier: Sequence[str]) -> None:
    """Without their photographs, a model that is unlearned from the vanilla one would know them again."""
    if lost := [person for person in earlier if person not in people.benchmark.entities]:
        raise UserError(
            f"benchmark {people.benchmark.name} lacks {', '.join(lost)}, who asked to be forgotten earlier; keep their "
            "photographs for as long as unlearning starts from a model that knows them"
        )
