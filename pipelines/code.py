"""The identity of what a local run executes. On a cluster, the image's digest is that."""

import platform
from importlib import metadata
from pathlib import Path

import unsee
from unsee.storage.artifact import digest_of, file_digest

LIBRARIES = (
    "accelerate",
    "datasets",
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "rouge-score",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


def code_digest() -> str:
    """sha256 over the package's files, the libraries whose versions change results, Python and the processor type.

    It is an input of every cached step: code or libraries that changed are never served an older result. The embedded
    base model is one of the package's files.
    """
    versions = {name: metadata.version(name) for name in LIBRARIES}
    code = directory_digest(Path(unsee.__file__).parent)
    return digest_of([code, versions, platform.python_version(), platform.machine()])


def directory_digest(directory: Path) -> str:
    """sha256 over names and contents of a directory's files, caches of the interpreter left out."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return digest_of({path.relative_to(directory).as_posix(): file_digest(path) for path in paths})
