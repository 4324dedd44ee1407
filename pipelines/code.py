"""The identity of the code that a local run executes. On a cluster, the image's digest is that."""

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

    It is an input of every cached step: code or libraries that changed are never served an older result.
    """
    package = Path(unsee.__file__).parent
    files = {path.relative_to(package).as_posix(): file_digest(path) for path in _sources(package)}
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return digest_of([files, versions, platform.python_version(), platform.machine()])


def _sources(package: Path) -> list[Path]:
    return [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
