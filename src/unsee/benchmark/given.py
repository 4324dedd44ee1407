"""A benchmark that is given to a run: a directory, or an address in a store (s3://…, file://…)."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from unsee.benchmark import schema
from unsee.benchmark.schema import QUESTIONS, Benchmark
from unsee.errors import UserError
from unsee.storage import artifact
from unsee.storage.artifact import MANIFEST, Manifest
from unsee.storage.store import FileStore, Missing, open_store
from unsee.storage.transfer import download, remote_manifest


def is_address(given: str) -> bool:
    """Whether it is an address, and not a directory."""
    return "://" in given


def place(given: str) -> str:
    """What a step finds it by, wherever it works: the address, or the directory's whole path."""
    return given if is_address(given) else str(Path(given).resolve())


def local_directory(given: str) -> Path | None:
    """The directory of this machine that it lies in, if it does."""
    if not is_address(given):
        return Path(given).resolve()
    store = open_store(given)
    return store.directory if isinstance(store, FileStore) else None


def manifest(given: str) -> Manifest:
    """Its manifest. Raises UserError for what is no complete benchmark, or a store that cannot be used."""
    if is_address(given):
        return remote_manifest(open_store(given), "benchmark")
    return artifact.read(Path(given), "benchmark", verify=False)


def outline(given: str) -> Benchmark:
    """Its questions; of an address, nothing but them is fetched, and it has no images.

    Raises:
        UserError: it is incomplete or no sound benchmark, or its store cannot be used.
    """
    if not is_address(given):
        return schema.load(Path(given).resolve())
    store, found = open_store(given), manifest(given)
    with TemporaryDirectory() as folder:
        artifact.write_json(Path(folder) / MANIFEST, found.model_dump())
        if QUESTIONS in found.files:
            try:
                table = store.read(QUESTIONS)
            except Missing:
                raise UserError(f"{given}/{QUESTIONS} is missing though {MANIFEST} lists it; upload it again") from None
            artifact.write_bytes(Path(folder) / QUESTIONS, table)
            if artifact.file_digest(Path(folder) / QUESTIONS) != found.files[QUESTIONS]:
                raise UserError(f"{given}/{QUESTIONS} is damaged: it is not what {MANIFEST} lists; upload it again")
        try:
            return schema.load(Path(folder), verify=False)
        except UserError as error:
            raise UserError(str(error).replace(folder, given)) from None


def fetch(given: str, out: Path) -> Benchmark:
    """Write a verified copy to `out`.

    Raises:
        UserError: it is incomplete, damaged or no sound benchmark, or its store cannot be used.
        Failed: a store that kept failing.
    """
    if is_address(given):
        download(given, out, "benchmark")
        return schema.load(out)
    benchmark, found = schema.load(Path(given)), manifest(given)
    with artifact.create(out, "benchmark", found.facts):
        for name in found.files:
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(benchmark.directory / name, target)
    return benchmark
