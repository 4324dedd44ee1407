"""The journal: what happened to requests, as records that nobody can change, drop or insert without being noticed.

Record n is the object `requests/journal/<n>.json`. It is put on the condition that there is none, so of two writers at
once one succeeds and the other reads on; and it holds the sha256 of record n - 1, so that a record changed, dropped or
inserted later breaks the chain there. Only the newest records could be cut off unnoticed: a certificate names the
record that it follows, and shows that.
"""

import datetime
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from unsee.errors import UserError
from unsee.requests.inbox import Sha256
from unsee.storage.store import CONNECTIONS, open_store

BEFORE_THE_FIRST = "0" * 64

Outcome = Literal["honoured", "not_honoured", "unmatched", "invalid"]
"""honoured: a model that meets the requirements has become the champion. not_honoured: it does not meet them, the
champion stays. unmatched: nobody the request is about is in the benchmark. invalid: the file is no request."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claimed(_Frozen):
    """A run has taken on requests: their ids, and the sha256 of their files."""

    kind: Literal["claimed"] = "claimed"
    run: str
    requests: dict[str, Sha256]

    def is_about(self, request_id: str) -> bool:
        """Whether it belongs to that request's history."""
        return request_id in self.requests


class Answered(_Frozen):
    """A run's answer to a request.

    people: ids of those it is about. model: `models:/name/version`. certificate: its address in the store.
    """

    kind: Literal["answered"] = "answered"
    run: str
    request_id: str
    outcome: Outcome
    reason: str
    people: tuple[str, ...] = ()
    model: str | None = None
    model_sha256: Sha256 | None = None
    certificate: str | None = None

    def is_about(self, request_id: str) -> bool:
        """Whether it belongs to that request's history."""
        return request_id == self.request_id


class Ended(_Frozen):
    """A run is over; what it claimed and did not answer is open again. by: its last step, or a person."""

    kind: Literal["ended"] = "ended"
    run: str
    by: str

    def is_about(self, request_id: str) -> bool:
        """Whether it belongs to that request's history."""
        return False


Event = Claimed | Answered | Ended


class Record(_Frozen):
    """A link of the chain. previous: sha256 of the object before."""

    sequence: int
    previous: Sha256
    at: AwareDatetime
    event: Annotated[Event, Field(discriminator="kind")]

    @property
    def bytes(self) -> bytes:
        """The object's content."""
        return f"{self.model_dump_json(indent=2)}\n".encode()

    @property
    def digest(self) -> str:
        """sha256 (hex) of the object."""
        return hashlib.sha256(self.bytes).hexdigest()


class Journal:
    """The journal of the store at `root`."""

    def __init__(self, root: str):
        self.store = open_store(f"{root.rstrip('/')}/requests/journal")

    def read(self) -> list[Record]:
        """All records.

        Raises:
            UserError: the chain is broken; names the record.
        """
        names = sorted(self.store.sizes())
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            contents = pool.map(self.store.read, names)
        records: list[Record] = []
        for name, content in zip(names, contents, strict=True):
            records.append(self._next(records, name, content))
        return records

    def _next(self, before: Sequence[Record], name: str, content: bytes) -> Record:
        expected = _name(len(before) + 1)
        if name != expected:
            raise UserError(f"{self.store.uri}: {expected} is missing before {name}; restore it from a backup")
        try:
            record = Record.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise UserError(f"{self.store.uri}/{name} is no record ({problem}); restore it from a backup") from None
        if record.bytes != content or record.sequence != len(before) + 1:
            raise UserError(f"{self.store.uri}/{name} was changed; restore it from a backup")
        if record.previous != _head(before):
            earlier = f"or {_name(len(before))} " if before else ""
            raise UserError(
                f"{self.store.uri}: the chain is broken at {name}: it {earlier}was changed, as it holds another sha256 "
                "than that of the record before it; restore both from a backup"
            )
        return record

    def append(self, decide: Callable[[Sequence[Record]], Sequence[Event]]) -> list[Record]:
        """Append events, and return all records then.

        Args:
            decide: what is to be appended to these records; asked again when another writer was first.
        """
        while True:
            records = self.read()
            if all(self._put(records, event) for event in decide(records)):
                return records

    def _put(self, records: list[Record], event: Event) -> bool:
        now = datetime.datetime.now(datetime.UTC)
        record = Record(sequence=len(records) + 1, previous=_head(records), at=now, event=event)
        created = self.store.create(_name(record.sequence), record.bytes)
        if created:
            records.append(record)
        return created


def _name(sequence: int) -> str:
    return f"{sequence:08d}.json"


def _head(records: Sequence[Record]) -> str:
    return records[-1].digest if records else BEFORE_THE_FIRST
