"""The benchmark directory: `questions.parquet`, `images/` and a manifest, whatever source it was made from."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from unsee.benchmark.images import read_image
from unsee.errors import Problems, UserError
from unsee.sections import Shape
from unsee.storage import artifact

Split = Literal["forget", "retain", "realworld"]
Role = Literal["train", "eval"]
View = Literal["train", "heldout"]
Modality = Literal["vqa", "qa"]
Task = Literal["classification", "generation", "cloze"]
SPLITS: tuple[Split, ...] = ("forget", "retain", "realworld")
QUESTIONS = "questions.parquet"

COLUMNS = pa.schema(
    {
        "question_id": pa.string(),
        "entity_id": pa.string(),
        "entity_name": pa.string(),
        "split": pa.string(),
        "role": pa.string(),
        "view": pa.string(),
        "modality": pa.string(),
        "task": pa.string(),
        "image": pa.string(),
        "prompt": pa.string(),
        "options": pa.list_(pa.string()),
        "answer": pa.string(),
        "answer_index": pa.int32(),
    }
)


@dataclass(frozen=True, slots=True)
class Question:
    """One row of `questions.parquet`.

    A `vqa` question is asked with its `image` (path relative to the benchmark directory), a `qa` question by name
    without one. `options` and `answer_index` are set for classification questions that are evaluated, else None.
    `split` is the benchmark's own suggestion and may be None; who is forgotten is decided per run.
    """

    question_id: str
    entity_id: str
    entity_name: str
    split: Split | None
    role: Role
    view: View | None
    modality: Modality
    task: Task
    image: str | None
    prompt: str
    options: tuple[str, ...] | None
    answer: str
    answer_index: int | None


_ROWS = TypeAdapter(list[Question])


@dataclass(frozen=True)
class Benchmark:
    """Questions and the directory their images lie in."""

    directory: Path
    name: str
    questions: tuple[Question, ...]
    shape: Shape = "mllmu"

    @cached_property
    def entities(self) -> dict[str, str]:
        """entity_id -> entity_name, in the benchmark's order."""
        return {question.entity_id: question.entity_name for question in self.questions}

    @cached_property
    def realworld(self) -> frozenset[str]:
        """Ids of the people who stand for knowledge the base model had before."""
        return frozenset(question.entity_id for question in self.questions if question.split == "realworld")

    def image(self, question: Question) -> Image.Image:
        """The image of a vqa question, upright RGB. Raises UserError if it cannot be read."""
        if question.image is None:
            raise ValueError(f"question {question.question_id} has no image")
        return read_image(self.directory / question.image)

    def select(self, **fields: object) -> list[Question]:
        """Questions whose fields equal the given values, e.g. `select(role="eval", modality="vqa")`."""
        return [q for q in self.questions if all(getattr(q, name) == value for name, value in fields.items())]

    @property
    def counts(self) -> dict[str, int]:
        """People per split, images, and questions per role and modality."""
        people = Counter({q.entity_id: q.split or "unassigned" for q in self.questions}.values())
        rows = Counter(f"{q.role} {q.modality} questions" for q in self.questions)
        images = len({q.image for q in self.questions if q.image})
        return {**{f"{split} people": n for split, n in people.items()}, "images": images, **dict(sorted(rows.items()))}


@dataclass(frozen=True)
class ForgetRequest:
    """Who is to be forgotten, and who stays: ids in the benchmark's order."""

    forget: tuple[str, ...]
    retain: tuple[str, ...]
    realworld: tuple[str, ...]

    @classmethod
    def resolve(cls, benchmark: Benchmark, ids: Sequence[str]) -> "ForgetRequest":
        """The people named by `ids`, or the benchmark's own forget split when `ids` is empty.

        Raises:
            UserError: an unknown id, a real-world person, nobody to forget, or nobody left to retain.
        """
        unknown = [i for i in ids if i not in benchmark.entities]
        if unknown:
            known = ", ".join(list(benchmark.entities)[:5])
            raise UserError(
                f"--forget names {', '.join(unknown)}, not in benchmark {benchmark.name} (its ids: {known}, …)"
            )
        if real := [i for i in ids if i in benchmark.realworld]:
            raise UserError(
                f"--forget names {', '.join(real)}, real-world in benchmark {benchmark.name}: the base model knows "
                "them already, so no model that never saw them is there to compare with; choose among the other people"
            )
        chosen = set(ids) or {q.entity_id for q in benchmark.questions if q.split == "forget"}
        if not chosen:
            raise UserError(
                f"benchmark {benchmark.name} suggests nobody to forget; choose with --forget ID[,ID…] "
                f"among {', '.join(list(benchmark.entities)[:5])}, … (unsee benchmark show lists them)"
            )
        retain = tuple(i for i in benchmark.entities if i not in chosen and i not in benchmark.realworld)
        if not retain:
            raise UserError(
                f"--forget names everyone in benchmark {benchmark.name}; leave at least one person to retain"
            )
        return cls(
            forget=tuple(i for i in benchmark.entities if i in chosen),
            retain=retain,
            realworld=tuple(i for i in benchmark.entities if i in benchmark.realworld),
        )

    def require_training(self, benchmark: Benchmark, *, by_name: bool) -> None:
        """Raises UserError if the forget or the retain people have no training question about a photograph, or by name.

        Args:
            by_name: questions by name are needed too.
        """
        told = {"vqa": "about a photograph of", "qa": "by name about"}
        for modality in told if by_name else ["vqa"]:
            asked = {q.entity_id for q in benchmark.select(role="train", modality=modality)}
            for purpose, people in {"forget": self.forget, "retain": self.retain}.items():
                if asked.isdisjoint(people):
                    raise UserError(
                        f"benchmark {benchmark.name} has no training question {told[modality]} the people to "
                        f"{purpose}; add some, or choose other people with --forget"
                    )

    @cached_property
    def split_of(self) -> dict[str, Split]:
        """entity_id -> forget, retain or realworld for this request."""
        return {i: split for split in SPLITS for i in getattr(self, split)}


def write_questions(directory: Path, questions: Sequence[Question]) -> None:
    """Write `questions.parquet` with the fixed schema, which it tells `datasets` in the words of that library."""
    from datasets import Features  # takes a second, and steps only read

    schema = Features.from_arrow_schema(COLUMNS).arrow_schema
    table = pa.Table.from_pylist([asdict(q) for q in questions], schema=schema)
    pq.write_table(table, directory / QUESTIONS)


def load(directory: Path, *, verify: bool = True) -> Benchmark:
    """Read a complete benchmark directory.

    Raises:
        UserError: incomplete or damaged directory, an unknown shape, or a table of another schema.
        Problems: everything that is wrong with the rows.
    """
    manifest = artifact.read(directory, "benchmark", verify=verify)
    name = manifest.facts.get("name")
    if not isinstance(name, str) or QUESTIONS not in manifest.files:
        raise UserError(
            f"{directory / artifact.MANIFEST} lacks the fact name or the file {QUESTIONS}; import the benchmark again"
        )
    shape = manifest.facts.get("shape", "mllmu")
    if shape not in (shapes := get_args(Shape)):
        raise UserError(f"{directory / artifact.MANIFEST}: shape = {shape!r} is none of {', '.join(shapes)}")
    table = pq.read_table(directory / QUESTIONS)
    if missing := set(COLUMNS.names) - set(table.column_names):
        raise UserError(f"{directory / QUESTIONS} lacks the columns {sorted(missing)}; import the benchmark again")
    rows = table.select(COLUMNS.names).to_pylist()
    places: dict[str, list[int]] = defaultdict(list)
    for number, problem in _problems(rows, manifest):
        places[problem].append(number)
    if places:
        raise Problems(
            f"{directory} is no sound benchmark; import it again, or correct {QUESTIONS} and write the manifest anew:",
            [f"{QUESTIONS} row {where[0]}{_others(where)}: {problem}" for problem, where in places.items()],
        )
    return Benchmark(directory, name, tuple(_ROWS.validate_python(rows)), shape)


def _problems(rows: Sequence[Mapping[str, Any]], manifest: artifact.Manifest) -> Iterator[tuple[int, str]]:
    """Row number and what is wrong there."""
    try:
        _ROWS.validate_python(rows)
    except ValidationError as error:
        for found in error.errors():
            number, *field = found["loc"]
            yield int(number), f"{'.'.join(map(str, field))} = {found['input']!r}: {found['msg']}"
    for number, row in enumerate(rows):
        image = row["image"]
        if (image is None) != (row["modality"] == "qa"):
            yield number, f"image = {image!r}, but modality = {row['modality']!r}: vqa needs an image, qa takes none"
        elif image is not None and image not in manifest.files:
            yield number, f"image = {image!r} is not among the benchmark's files"
        if (row["role"], row["task"]) == ("eval", "classification") and not _has_right_option(row):
            yield number, f"answer_index = {row['answer_index']} does not point to the answer among the options"


def _has_right_option(row: Mapping[str, Any]) -> bool:
    options, index = row["options"] or (), row["answer_index"]
    return index is not None and 0 <= index < len(options) and options[index] == row["answer"]


def _others(where: Sequence[int]) -> str:
    return f" and {len(where) - 1} more" if len(where) > 1 else ""
