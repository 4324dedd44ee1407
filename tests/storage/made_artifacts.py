"""Artifacts to be brought to stores and back."""

import os
from pathlib import Path

from unsee.storage import artifact


def make(path: Path, *, megabytes: int = 17) -> Path:
    """Small files, an empty one, a name that needs quoting, and a file of random bytes."""
    with artifact.create(path, "model", {}):
        artifact.write_bytes(path / "deep" / "empty", b"")
        artifact.write_bytes(path / "with space+and%41#?&ü.txt", b"small")
        artifact.write_bytes(path / "deep" / "weights.bin", os.urandom(megabytes << 20))
    return path
