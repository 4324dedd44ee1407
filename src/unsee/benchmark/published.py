"""Reading a published benchmark through `datasets`: from the Hugging Face hub, or a local copy of its repository.

A benchmark has several configurations ("Full_Set", "forget_5", …), a folder of parquet files each. Rows are streamed,
so that nothing but the benchmark directory is written, and checked one by one against a model of their columns; what is
wrong with them is collected and told together.
"""

import reprlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import datasets
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from unsee.benchmark.folder import without_special_tokens
from unsee.benchmark.images import image_format
from unsee.errors import Problems, UserError
from unsee.progress import progress

ROWS_AT_ONCE = 16


def _readable(data: bytes) -> bytes:
    try:
        image_format(data, "the image")
    except UserError as error:
        raise ValueError(str(error)) from error
    return data


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(without_special_tokens)]
PATHS = (".", "/", "~")
"""What a directory begins with, and an id on the hub does not."""
Item = TypeVar("Item")
Many = Annotated[list[Item], BeforeValidator(lambda given: [] if given is None else given)]
"""A list that may be null."""


class Row(BaseModel):
    """What is read of a row: a field for each column; other columns are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Picture(Row):
    """An image column as `datasets` stores it: the file's content, which is one that Pillow decodes."""

    bytes: Annotated[bytes, AfterValidator(_readable)]

    @model_validator(mode="before")
    @classmethod
    def _there(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("bytes"):
            raise ValueError("holds no image; put the file's content there")
        return given


AnyRow = TypeVar("AnyRow", bound=Row)


class Tables:
    """The configurations of one benchmark, and what was found wrong so far.

    problems: with single rows. mismatches: with rows taken together, told once all rows are sound.
    """

    def __init__(self, source: str):
        """`source`: an id on the hub, or a directory.

        Raises:
            UserError: there is no such benchmark, or the hub cannot be reached.
        """
        self.source = source
        self.problems: list[str] = []
        self.mismatches: list[str] = []
        if source.startswith(PATHS) and not Path(source).is_dir():
            raise UserError(f"{source} is no directory; give one with a copy of the benchmark, or its id on the hub")
        with _told(source):
            self._configurations = datasets.get_dataset_config_names(source)

    def rows(self, configuration: str, model: type[AnyRow]) -> Iterator[tuple[str, AnyRow]]:
        """Every sound row and where it stands ("Full_Set row 3"); the others become problems.

        Raises:
            UserError: no such configuration, unreadable files, or a column that is not there.
        """
        place = f"{self.source}, {configuration}"
        table = self._open(configuration, place, list(model.model_fields))
        for number, values in enumerate(progress(_values(table, place), f"reading {configuration}")):
            where = f"{configuration} row {number}"
            try:
                yield where, model.model_validate(values)
            except ValidationError as error:
                self.problems += [_explain(where, found) for found in error.errors()]

    def add_missing(self, configuration: str, wanted: Iterable[str], there: Collection[str], who: str) -> None:
        """A mismatch that names those of `wanted` that a configuration lacks, if it lacks any."""
        if missing := [item for item in sorted(wanted) if item not in there]:
            named = ", ".join(missing)
            self.mismatches.append(f"{configuration} has no row of {len(missing)} {who}: {named}; add their rows")

    def require_sound(self) -> None:
        """Raises Problems with everything that was found."""
        if found := self.problems or self.mismatches:
            headline = (
                f"{self.source} cannot be imported, nothing was written; take a local copy of it, correct these "
                f"{len(found)} places in its parquet files (rows counted from 0) and import that:"
            )
            raise Problems(headline, found)

    def _open(self, configuration: str, place: str, columns: list[str]) -> datasets.IterableDataset:
        """`columns` are named to the reader too: those that the card tells of and a file lacks would be null."""
        by = "name" if configuration in self._configurations else "data_dir"
        with _told(place):
            table = datasets.load_dataset(
                self.source, split="train", streaming=True, columns=columns, **{by: configuration}
            )
        if missing := [column for column in columns if column not in table.column_names]:
            raise UserError(
                f"{place}: the column {missing[0]} is missing; give a copy of the benchmark as it is published"
            )
        return table.with_format("arrow")


def _values(table: datasets.IterableDataset, place: str) -> Iterator[dict[str, Any]]:
    """Rows as they are stored: images are not decoded."""
    with _told(place):
        for rows in table.iter(batch_size=ROWS_AT_ONCE):
            yield from rows.to_pylist()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What `datasets` cannot read, in one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{what} cannot be read ({reason}); give the benchmark's id on a Hugging Face hub that answers, or a "
            "directory that holds a copy of it with its parquet files (of a preset: --set benchmark.source=DIRECTORY)"
        ) from error


def save_picture(directory: Path, stem: str, picture: Picture) -> str:
    """Write the file as it was published; returns its path in the benchmark."""
    suffix = image_format(picture.bytes, stem).lower()
    path = Path("images") / f"{stem}.{suffix}"
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).write_bytes(picture.bytes)
    return path.as_posix()


def _explain(where: str, found: ErrorDetails) -> str:
    place = ".".join(map(str, found["loc"])) or "as a whole"
    reason = found["msg"].removeprefix("Value error, ")
    return f"{where}, {place} = {reprlib.repr(found['input'])}: {reason}{'' if ';' in reason else '; correct it'}"
