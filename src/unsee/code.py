"""The identity of the code that runs, and of the libraries it rests on: what caches and checkpoints are keyed by."""

import platform
from importlib import metadata
from pathlib import Path

import unsee
from unsee.storage.artifact import digest_of, file_digest

LIBRARIES = (
    "accelerate",
    "datasets",
    "numpy",
    "peft",
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

    It is an input of every cached step and of every checkpoint: code or libraries that changed never get an older
    result, and never go on from one. The embedded base model is one of the package's files.
    """
    versions = {name: metadata.version(name) for name in LIBRARIES}
    code = directory_digest(Path(unsee.__file__).parent)
    return digest_of([code, versions, platform.python_version(), platform.machine()])


def directory_digest(directory: Path) -> str:
    """sha256 over names and contents of a directory's files, without hidden ones and the interpreter's caches."""
    files = {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}
    return digest_of({name.as_posix(): file_digest(path) for name, path in files.items() if not _is_cache(name)})


def _is_cache(name: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.parts)
