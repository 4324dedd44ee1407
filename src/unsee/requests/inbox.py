"""The inbox: a JSON file per deletion request, `requests/inbox/<request_id>.json`, put there once and never changed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from unsee.errors import UserError
from unsee.storage.store import CONNECTIONS, Store, open_store

ENDING = ".json"
RequestId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
EntityId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class DeletionRequest(BaseModel):
    """Whose faces are to be forgotten: people by their ids in the benchmark, or whoever is on these photographs.

    images: sha256 (hex) of the photographs' files. received_at: with its offset from UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: RequestId
    entities: tuple[EntityId, ...] = ()
    images: tuple[Sha256, ...] = ()
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""
    received_at: AwareDatetime

    @model_validator(mode="after")
    def _about_somebody(self) -> "DeletionRequest":
        if bool(self.entities) == bool(self.images):
            raise ValueError("give either entities or images")
        return self


@dataclass(frozen=True)
class Received:
    """A file of the inbox: its sha256, and the request in it or what is wrong with it."""

    digest: str
    request: DeletionRequest | None
    problem: str = ""


def inbox(root: str) -> Store:
    """The inbox of the store at `root`."""
    return open_store(f"{root.rstrip('/')}/requests/inbox")


def add(root: str, request: DeletionRequest) -> str:
    """Put a request into the inbox and return its address; the same request may be added again.

    Raises:
        UserError: there is another request with this id.
    """
    store, name = inbox(root), f"{request.request_id}{ENDING}"
    if not store.create(name, f"{request.model_dump_json(indent=2)}\n".encode()):
        raise UserError(f"{store.uri}/{name} is there already and says something else; choose another --id")
    return f"{store.uri}/{name}"


def received(root: str) -> dict[str, Received]:
    """Every file of the inbox by the id its name gives, in the order of these names; only `.json` files count."""
    store = inbox(root)
    names = sorted(name for name in store.sizes() if name.endswith(ENDING))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        contents = pool.map(store.read, names)
    return {n.removesuffix(ENDING): _parse(n, content) for n, content in zip(names, contents, strict=True)}


def _parse(name: str, content: bytes) -> Received:
    digest = hashlib.sha256(content).hexdigest()
    try:
        request = DeletionRequest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        return Received(digest, None, f"{field}: {first['msg']}" if field else first["msg"])
    if name != f"{request.request_id}{ENDING}":
        return Received(digest, None, f"request_id {request.request_id!r} is not the file's name")
    return Received(digest, request)
