"""Whose turn it is, and what it takes on: one run at a time, since a model can only be replaced by one that forgets
everybody it forgets, and two runs at once would each forget only their own.

A run has its turn from the record of its claim to the record of its end. That is written by the pipeline's exit
handler, however the run ends, or by a person who knows that it has ended (`unsee requests release`): no clock decides
that a run that is merely slow is over.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unsee.errors import UserError
from unsee.requests.inbox import Received, received
from unsee.requests.journal import Answered, Claimed, Ended, Event, Journal, Record
from unsee.storage.transfer import verify as verify_artifact

RUN = "KFP_RUN_ID"
EXIT_HANDLER = "exit handler"
CERTIFICATE = "certificate"
"""The kind of artifact that a certificate is."""


@dataclass(frozen=True)
class Turn:
    """What the journal says: the last answer to each request, and the run whose turn it is, with what it took on and
    has not answered (ids and sha256 of their files)."""

    answers: dict[str, Answered]
    run: str | None
    claimed: dict[str, str]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Turn":
        """What these records of the journal, from the first on, come to."""
        answers: dict[str, Answered] = {}
        claimed: dict[str, str] = {}
        run = None
        for event in (record.event for record in records):
            if isinstance(event, Claimed):
                run, claimed = event.run, dict(event.requests)
            elif isinstance(event, Answered):
                answers[event.request_id] = event
                claimed.pop(event.request_id)
            else:
                run, claimed = None, {}
        return cls(answers, run, claimed)

    @property
    def people(self) -> set[str]:
        """Everybody whom an answered request is about."""
        return {person for answer in self.answers.values() for person in answer.people}

    def require(self, run: str) -> None:
        """Raises UserError unless it is this run's turn."""
        if self.run != run:
            raise UserError(f"run {run} has no claim on any request (any more): it has ended; start a new run")


def this_run() -> str:
    """The id of the pipeline run that this process is a step of.

    Raises:
        UserError: it is none.
    """
    if not (run := os.environ.get(RUN)):
        raise UserError(f"{RUN} is not set: requests are answered by pipeline runs; use unsee requests answer")
    return run


def claim(root: str, run: str, *, retry: bool = False) -> dict[str, str]:
    """Take on all open requests, and those that were not honoured; nothing if there are only the latter.

    A run that has its turn keeps what it took on, so a step may claim again.

    Args:
        retry: take on those that were not honoured even if there are no others.

    Returns:
        What this run has taken on and not answered: ids, and sha256 of their files.

    Raises:
        UserError: there are open requests, but it is another run's turn, or one that was not honoured has changed.
    """

    def decide(records: Sequence[Record]) -> list[Event]:
        turn = Turn.of(records)
        if turn.run == run:
            return []
        files = received(root)
        pending = {name: file.digest for name, file in files.items() if name not in turn.answers}
        again = [name for name, answer in turn.answers.items() if answer.outcome == "not_honoured"]
        if not (pending or (retry and again)):
            return []
        if turn.run is not None:
            raise UserError(
                f"run {turn.run} is at work on requests {', '.join(turn.claimed) or '(all answered)'}; wait for it, or "
                f"if it has ended without a word, tell so by unsee requests release {turn.run}"
            )
        before = _claimed(records)
        for name in again:
            require_unchanged(name, before[name], files)
        return [Claimed(run=run, requests={**{name: before[name] for name in again}, **pending})]

    turn = Turn.of(Journal(root).append(decide))
    return turn.claimed if turn.run == run else {}


def answer(root: str, run: str, answers: Sequence[Answered]) -> None:
    """Record answers to what a run has taken on; those that are recorded already are left out.

    Raises:
        UserError: it is not the run's turn.
    """

    def decide(records: Sequence[Record]) -> list[Event]:
        turn = Turn.of(records)
        turn.require(run)
        return [given for given in answers if given.request_id in turn.claimed]

    Journal(root).append(decide)


def end(root: str, run: str, by: str = EXIT_HANDLER) -> bool:
    """Record that a run has ended, if it has its turn; returns whether it had."""

    def decide(records: Sequence[Record]) -> list[Event]:
        return [Ended(run=run, by=by)] if Turn.of(records).run == run else []

    before = Journal(root).append(decide)
    return bool(before) and before[-1].event == Ended(run=run, by=by)


def verify(root: str) -> list[Record]:
    """The journal, after checking its chain, the files of all claimed requests, and all certificates.

    Raises:
        UserError: names what was changed or deleted.
    """
    records, files = Journal(root).read(), received(root)
    for event in (record.event for record in records):
        if isinstance(event, Claimed):
            for name, digest in event.requests.items():
                require_unchanged(name, digest, files)
        elif isinstance(event, Answered) and event.certificate:
            verify_artifact(event.certificate, CERTIFICATE)
    return records


def _claimed(records: Sequence[Record]) -> dict[str, str]:
    """Every request that was ever claimed, and the sha256 of its file."""
    claims = [record.event.requests for record in records if isinstance(record.event, Claimed)]
    return {name: digest for requests in claims for name, digest in requests.items()}


def require_unchanged(name: str, digest: str, files: Mapping[str, Received]) -> Received:
    """The file of a claimed request; raises UserError if it is not what was claimed."""
    if name not in files or files[name].digest != digest:
        raise UserError(f"request {name} was changed or deleted after it was claimed; restore it from a backup")
    return files[name]
