"""Where objects are kept: below a directory (file://) or below a prefix of an S3 bucket (s3://), behind one interface.

An object has a name, "deep/weights.safetensors", and is there whole or not at all.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import unquote, urlsplit

from unsee.errors import UserError
from unsee.storage.artifact import is_inside

# On few cores, threads wait for each other rather than for the network.
CONNECTIONS = min(10, 2 * (os.cpu_count() or 1))
TEMPORARY = ".~"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Missing(Exception):
    """There is no object of this name."""


class Failed(Exception):
    """The store failed in a way that its user cannot mend: the sentence says how."""


class Damaged(Failed):
    """An object is not the bytes that were written."""


class Parts(Protocol):
    """An object that is sent in parts, in any order and by several threads. It is not there before `finish`."""

    def put(self, index: int, data: bytes) -> None:
        """Send part `index`, counted from 0."""

    def finish(self) -> None:
        """Make the object of its parts, all of which have been sent."""


class Store(Protocol):
    """Objects below `uri`. Every method raises UserError for what the user can mend, and Failed for what not."""

    uri: str

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by its name."""

    def read(self, name: str) -> bytes:
        """The bytes of an object; raises Missing."""

    def read_into(self, buffer: memoryview, name: str, start: int) -> int:
        """Fill the buffer with an object's bytes from `start`, and return how many there were; raises Missing."""

    def write(self, name: str, data: bytes) -> None:
        """Create or replace an object."""

    def create(self, name: str, data: bytes) -> bool:
        """Create an object unless there is one. Returns whether it holds these bytes."""

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A file to fill inside the block, which creates or replaces the object unless an exception leaves it."""

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A file that holds the object for as long as the block lasts; raises Missing, or Damaged if it can tell."""

    def parts(self, name: str, size: int, part: int) -> Parts:
        """An object of `size` bytes to be sent in parts of `part` bytes, the last one shorter.

        What an interrupted attempt has sent to S3 is not sent again. Two writers at once must send the same bytes.
        """


def open_store(uri: str) -> Store:
    """The store at file:///directory or s3://bucket/prefix.

    Raises:
        UserError: another scheme, a bucket's name that cannot be, or a path that leaves its directory.
    """
    address = urlsplit(uri)
    prefix = unquote(address.path) if address.scheme == "file" else address.path
    below = prefix.removeprefix("/").removesuffix("/")
    if address.query or address.fragment or (below and not is_inside(below)):
        raise UserError(f"{uri!r}: {prefix!r} is no plain path; leave out .., //, ? and #")
    if address.scheme == "file" and address.netloc in ("", "localhost") and prefix.startswith("/"):
        return FileStore(Path(prefix))
    if address.scheme != "s3":
        raise UserError(f"{uri!r} is no address of a store; write s3://bucket/prefix or file:///directory")
    if not BUCKET.fullmatch(address.netloc):
        raise UserError(f"{uri!r}: {address.netloc!r} cannot be a bucket; write s3://bucket/prefix")
    from unsee.storage.s3 import S3Store

    return S3Store(address.netloc, below)


class FileStore:
    """Objects are files below a directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.uri = directory.as_uri()

    def sizes(self) -> dict[str, int]:
        found = {}
        for folder, folders, names in os.walk(self.directory):
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found[path.relative_to(self.directory).as_posix()] = path.stat().st_size
        return found

    def read(self, name: str) -> bytes:
        with self.reading(name) as path:
            return path.read_bytes()

    def read_into(self, buffer: memoryview, name: str, start: int) -> int:
        with self.reading(name) as path, path.open("rb") as file:
            file.seek(start)
            return file.readinto(buffer)

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as temporary:
            temporary.write_bytes(data)

    def create(self, name: str, data: bytes) -> bool:
        with self._temporary(name) as temporary, suppress(FileExistsError):
            temporary.write_bytes(data)
            _sync(temporary)
            self._path(name).hardlink_to(temporary)
        return self.read(name) == data

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with self._temporary(name) as temporary:
            yield temporary
            _sync(temporary)
            temporary.replace(self._path(name))

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        try:
            yield self._path(name)
        except FileNotFoundError:
            raise Missing(f"{self.uri}/{name}") from None

    def parts(self, name: str, size: int, part: int) -> Parts:
        return _FileParts(self._path(name), part)

    def _path(self, name: str) -> Path:
        return self.directory / require_inside(name)

    @contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        """A file in a directory of this writer alone, beside the object; a listing leaves both out."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as directory:
            yield Path(directory) / path.name


class _FileParts:
    """A file in a directory of this writer alone, beside the object, which goes when the writer does."""

    def __init__(self, path: Path, part: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.part = path, part
        self.directory = TemporaryDirectory(prefix=TEMPORARY, dir=path.parent)
        self.temporary = Path(self.directory.name) / path.name
        self.temporary.touch()

    def put(self, index: int, data: bytes) -> None:
        with self.temporary.open("r+b") as file:
            file.seek(index * self.part)
            file.write(data)

    def finish(self) -> None:
        _sync(self.temporary)
        self.temporary.replace(self.path)
        self.directory.cleanup()


def _sync(path: Path) -> None:
    """Have the disk hold what the file does."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def require_inside(name: str) -> str:
    """The name, if it cannot lead out of a directory; raises UserError otherwise."""
    if not is_inside(name):
        raise UserError(f"{name!r} is no name of an object: it must be a plain path below its directory")
    return name
