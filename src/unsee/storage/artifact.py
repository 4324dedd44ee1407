"""An artifact is a directory whose `manifest.json` was written last; without it the directory does not exist.

Every step writes its outputs through `create` and reads its inputs through `read`: a step that is killed, fails or
fills the disk leaves nothing that a later step could mistake for a result.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from unsee.errors import UserError

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
SCHEMA_VERSION = 1

_step_started: ContextVar[float] = ContextVar("step_started")


class Manifest(BaseModel):
    """What an artifact holds: its kind, free-form facts, and the sha256 of each of its files.

    `seconds` is the time from the start of the step that made it (`step_clock`) until its files were written; outside
    a step, from `create`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    kind: str
    facts: dict[str, Any]
    seconds: float
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """sha256 over names and contents of all files: two artifacts with equal digests hold equal bytes."""
        return digest_of(self.files)

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        if outside := [name for name in files if not is_inside(name)]:
            raise ValueError(f"files outside the directory: {', '.join(map(repr, outside))}")
        return files


def is_inside(name: str) -> bool:
    """Whether a name is a plain relative path, spelled in the one way it can be, that stays below its directory."""
    path = PurePosixPath(name)
    return str(path) == name != "." and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON-serialisable value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readers see the old file or the whole new one."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically (temporary sibling, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def step_started() -> float:
    """When the step that is running began, by the machine's monotonic clock; outside a step, now."""
    return _step_started.get(time.monotonic())


@contextmanager
def step_clock(since: float | None = None) -> Iterator[None]:
    """Count the seconds of artifacts created inside the block from its start, or from `since`."""
    token = _step_started.set(time.monotonic() if since is None else since)
    try:
        yield
    finally:
        _step_started.reset(token)


@contextmanager
def create(path: Path, kind: str, facts: dict[str, Any]) -> Iterator[Path]:
    """Fill `path` inside the block; on leaving it normally the manifest is written, on an exception nothing remains.

    `facts` may be added to inside the block. A directory that holds anything but an earlier artifact of the same kind
    or an unfinished one is refused, so that a mistyped `--out` never deletes someone's files.

    Raises:
        UserError: the directory is not empty and not ours.
    """
    started = step_started()
    clear(path, kind)
    path.mkdir(parents=True, exist_ok=True)
    (path / UNFINISHED).touch()
    try:
        yield path
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != UNFINISHED)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            kind=kind,
            facts=facts,
            seconds=round(time.monotonic() - started, 3),
            files={p.relative_to(path).as_posix(): file_digest(p) for p in files},
        )
        write_json(path / MANIFEST, manifest.model_dump())
        (path / UNFINISHED).unlink()
    except BaseException:
        _remove(path)
        raise


def require_free(path: Path, kind: str) -> None:
    """Raises UserError if a directory holds anything but an artifact of this kind, or an unfinished one."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, not a directory; give a new directory")
    if not path.exists() or not any(path.iterdir()):
        return
    ours = (path / UNFINISHED).exists()
    if not ours and (path / MANIFEST).exists():
        ours = read(path, kind, verify=False).kind == kind
    if not ours:
        raise UserError(f"{path} is not empty and holds no {kind}; give a new directory")


def clear(path: Path, kind: str) -> None:
    """Delete the artifact in a directory that is free for one of this kind.

    Raises:
        UserError: the directory is not free.
    """
    require_free(path, kind)
    if path.exists() and any(path.iterdir()):
        (path / UNFINISHED).touch()
        _remove(path)


def _remove(path: Path) -> None:
    """Delete an artifact so that at every instant it is either complete or marked as unfinished."""
    (path / MANIFEST).unlink(missing_ok=True)
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != UNFINISHED:
            entry.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def read(path: Path, kind: str, *, verify: bool = True) -> Manifest:
    """The manifest of a complete artifact of this kind; with `verify` every file is checked against its sha256.

    Raises:
        UserError: no directory, no manifest, another kind, a missing file, or a file whose content changed.
    """
    source = path / MANIFEST
    if not path.is_dir():
        raise UserError(f"{path} is no directory; give one that holds a {kind}")
    if not source.exists():
        raise UserError(f"{path} is no complete {kind}: {MANIFEST} is missing; run the step that writes it again")
    manifest = parse(source.read_bytes(), str(path), kind)
    if verify:
        for name, expected in manifest.files.items():
            if not (path / name).is_file():
                raise UserError(f"{path / name} is missing though {MANIFEST} lists it; run the step again")
            if file_digest(path / name) != expected:
                raise UserError(
                    f"{path / name} was changed or damaged (sha256 differs from {MANIFEST}); run the step again"
                )
    return manifest


def parse(data: bytes, place: str, kind: str) -> Manifest:
    """The manifest of an artifact of this kind at `place`.

    Raises:
        UserError: no manifest, or one of another kind.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise UserError(f"{place}/{MANIFEST} is not a manifest ({problem}); run the step again") from None
    if manifest.kind != kind:
        raise UserError(f"{place} holds a {manifest.kind}, not a {kind}; give the directory of a {kind}")
    return manifest
