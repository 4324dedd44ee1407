"""Artifacts between this machine and a store: in parallel, resumed where they were interrupted, verified by sha256.

In a store, an artifact's address holds its content's digest: `<root>/<kind>/<digest>`. So two writers at one address
write the same bytes, an interrupted writer's objects are of use to the next, and nothing there is ever replaced. As on
disk, the manifest comes last, and without it there is no artifact.
"""

import fcntl
import hashlib
import math
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import TypeVar

from unsee.errors import UserError
from unsee.storage import artifact
from unsee.storage.artifact import MANIFEST, Manifest
from unsee.storage.store import CONNECTIONS, Failed, Missing, Parts, Store, open_store

STORE = "UNSEE_STORE"
CHECKPOINTS = "UNSEE_CHECKPOINTS"
KFPS_OWN = ("file://", "minio://")
PART = 5 << 20
AHEAD = CONNECTIONS + 4
"""Parts that may be on their way or waiting to be taken: those beyond the connections keep these busy."""
MOST_PARTS = 10_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def store_root() -> str:
    """The store at $UNSEE_STORE; raises UserError if it is not set."""
    root = os.environ.get(STORE)
    if not root:
        raise UserError(f"{STORE} is not set; write e.g. export {STORE}=s3://bucket/prefix")
    return root


def upload(directory: Path, kind: str, root: str) -> str:
    """Bring a complete artifact to a store and return its address there; at once if it is there already.

    At most AHEAD + 1 parts of 5 MiB are in memory (parts are larger for files above 50 GB).

    Raises:
        UserError: no such artifact, a file that differs from the manifest, or a store that cannot be used.
        Failed: a store that kept failing.
    """
    manifest = artifact.read(directory, kind, verify=False)
    store = open_store(f"{root.rstrip('/')}/{kind}/{manifest.digest}")
    if lost := [name for name in manifest.files if not (directory / name).is_file()]:
        raise UserError(f"{directory / lost[0]} is missing though {MANIFEST} lists it; run the step again")
    sizes = {name: (directory / name).stat().st_size for name in manifest.files}
    there = store.sizes()
    if absent := {name: digest for name, digest in manifest.files.items() if there.get(name) != sizes[name]}:
        _send(directory, absent, store)
        arrived = store.sizes()
        if wrong := [name for name in absent if arrived.get(name) != sizes[name]]:
            raise Failed(f"{store.uri}/{wrong[0]} did not arrive whole; upload it again")
    if MANIFEST not in there:
        store.create(MANIFEST, (directory / MANIFEST).read_bytes())
    return store.uri


def published(directory: Path, kind: str, uri: str) -> Path | str:
    """Where others find an artifact that a step has: at `uri`, else in the store at $UNSEE_STORE, else in `directory`.

    On a cluster, KFP has put it at `uri` (s3://…). Where that is a local path, or an address that only KFP's launcher
    can read (minio://…), it is uploaded if a store is named.

    Raises:
        UserError, Failed: as `upload`.
    """
    if "://" in uri and not uri.startswith(KFPS_OWN):
        return uri
    root = os.environ.get(STORE)
    return upload(directory, kind, root) if root else directory


def download(uri: str, path: Path, kind: str) -> Manifest:
    """Bring an artifact to directory `path`, verified; at once if it is there already.

    At most AHEAD + 1 parts of 5 MiB are in memory. What an interrupted attempt has brought lies beside `path` and is
    not brought again. Several processes may do this at once: one does it, the others wait.

    Raises:
        UserError: no complete artifact of this kind, one that is damaged, a full disk, a directory that holds
            something else, or a store that cannot be used.
        Failed: a store that kept failing.
    """
    store = open_store(uri)
    manifest = remote_manifest(store, kind)
    if _holds(path, manifest):
        return manifest
    artifact.require_free(path, kind)
    with _alone(path.with_name(f".{path.name}.{manifest.digest[:16]}")) as unfinished:
        if not _holds(path, manifest):
            damaged = _fetch(store, manifest.files, unfinished)
            if damaged and (damaged := _fetch(store, damaged, unfinished)):
                wrong = next(iter(damaged))
                raise UserError(
                    f"{uri}/{wrong} is damaged (sha256 differs from {MANIFEST}); delete and upload it again"
                )
            artifact.write_json(unfinished / MANIFEST, manifest.model_dump())
            artifact.clear(path, kind)
            unfinished.rename(path)
    return manifest


def remote_manifest(store: Store, kind: str) -> Manifest:
    """The manifest of a complete artifact in a store.

    Raises:
        UserError: no complete artifact, or one of another kind.
    """
    try:
        return artifact.parse(store.read(MANIFEST), store.uri, kind)
    except Missing:
        raise UserError(f"{store.uri} is no complete {kind}: {MANIFEST} is missing; upload it again") from None


def verify(uri: str, kind: str) -> None:
    """Check a small artifact against its manifest, and that against its address.

    Raises:
        UserError: it is not there, not complete, or not what was uploaded.
    """
    store = open_store(uri)
    manifest = remote_manifest(store, kind)
    sizes = store.sizes()
    for name, digest in manifest.files.items():
        if name not in sizes or hashlib.sha256(store.read(name)).hexdigest() != digest:
            raise UserError(f"{uri}/{name} was changed or deleted (sha256 differs from {MANIFEST}); restore it")
    if PurePosixPath(uri).name != manifest.digest:
        raise UserError(f"{uri}/{MANIFEST} was changed (its digest differs from its address); restore it")


def preflight(root: str) -> None:
    """Put, get and delete an object, so that what is wrong is told before anything long starts.

    Raises:
        UserError: names the field: endpoint, region, bucket, key or TLS.
        Failed: the store keeps failing, or returns something else than was put.
    """
    store, name, data = open_store(root), f"preflight-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.write(name, data)
    if store.read(name) != data:
        raise Failed(f"{store.uri} returned other bytes than were put")
    store.delete(name)


def _send(directory: Path, digests: Mapping[str, str], store: Store) -> None:
    """Send files. An object is there only after all bytes of its file have proved to be those of its digest."""
    unfinished: list[Parts] = []
    jobs = (job for name, digest in digests.items() for job in _jobs(directory / name, name, digest, store, unfinished))
    for _ in _in_order(lambda job: job(), jobs):
        pass
    for parts in unfinished:
        parts.finish()


def _jobs(path: Path, name: str, digest: str, store: Store, unfinished: list[Parts]) -> Iterator[Callable[[], None]]:
    """What sends a file: one job if it is small, else one per part, and what is to be finished after them."""
    size = path.stat().st_size
    part = max(PART, math.ceil(size / MOST_PARTS))
    parts = store.parts(name, size, part) if size > part else None
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        for index in range(max(1, math.ceil(size / part))):
            data = file.read(part)
            hasher.update(data)
            if file.tell() >= size and hasher.hexdigest() != digest:
                raise UserError(f"{path} was changed or damaged (sha256 differs from {MANIFEST}); run the step again")
            yield partial(store.write, name, data) if parts is None else partial(parts.put, index, data)
    if parts is not None:
        unfinished.append(parts)


def _fetch(store: Store, digests: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Fetch files, going on where they end. Returns those that were not the bytes of their digest, and are gone."""
    sizes = store.sizes()
    if lost := [name for name in digests if name not in sizes]:
        raise UserError(f"{store.uri}/{lost[0]} is missing though {MANIFEST} lists it; upload it again")
    here = {name: (directory / name).stat().st_size if (directory / name).exists() else 0 for name in digests}
    _require_room(directory, sum(max(0, sizes[name] - here[name]) for name in digests))
    ranges = (
        (name, start, min(start + PART, sizes[name]))
        for name in digests
        for start in range(here[name], sizes[name], PART) or [sizes[name]]
    )
    damaged = {}
    for name, parts in groupby(_parts(store, ranges), key=itemgetter(0)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file, ThreadPoolExecutor(1) as writer:
            file.seek(0)
            hasher = hashlib.file_digest(file, "sha256")
            for _, data in parts:
                written = writer.submit(file.write, data)
                hasher.update(data)
                written.result()
        if hasher.hexdigest() != digests[name]:
            path.unlink()
            damaged[name] = digests[name]
    return damaged


def _parts(store: Store, ranges: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, memoryview]]:
    """Bytes [start, stop) of the objects, at most PART each, with their names; valid until the next is taken.

    Their memory is used again and again: new pages for every part can cost as much time as the transfer.
    """
    free = SimpleQueue[bytearray]()

    def read(part: tuple[str, int, int]) -> tuple[str, bytearray, int]:
        name, start, stop = part
        try:
            buffer = free.get_nowait()
        except Empty:
            buffer = bytearray(PART)
        return name, buffer, store.read_into(memoryview(buffer)[: stop - start], name, start)

    for name, buffer, count in _in_order(read, ranges):
        yield name, memoryview(buffer)[:count]
        free.put(buffer)


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """map() by several threads, never more than AHEAD items ahead of who takes the results."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _require_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(f"{directory.parent}: {needed:,} bytes are needed and {free:,} are free; free some space")


def _holds(path: Path, manifest: Manifest) -> bool:
    """Whether a directory holds this artifact, whole."""
    try:
        return artifact.read(path, manifest.kind).digest == manifest.digest
    except UserError:
        return False


@contextmanager
def _alone(directory: Path) -> Iterator[Path]:
    """A directory that no other process works in meanwhile. Its owner may rename it; an empty one is removed."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        held = os.open(directory, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if directory.stat().st_ino == os.fstat(held).st_ino:
                break
        os.close(held)
    try:
        yield directory
    finally:
        with suppress(OSError):
            directory.rmdir()
        os.close(held)
