"""The benchmark directory: `questions.parquet`, `images/` and a manifest, whatever source it was made from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value
from PIL import Image

from unsee.errors import UserError
from unsee.storage import artifact

Split = Literal["forget", "retain", "realworld"]
Role = Literal["train", "eval"]
View = Literal["train", "heldout"]
Modality = Literal["vqa", "qa"]
Task = Literal["classification", "generation", "cloze"]
SPLITS: tuple[Split, ...] = ("forget", "retain", "realworld")

FEATURES = Features(
    {
        "question_id": Value("string"),
        "entity_id": Value("string"),
        "entity_name": Value("string"),
        "split": Value("string"),
        "role": Value("string"),
        "view": Value("string"),
        "modality": Value("string"),
        "task": Value("string"),
        "image": Value("string"),
        "prompt": Value("string"),
        "options": List(Value("string")),
        "answer": Value("string"),
        "answer_index": Value("int32"),
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


@dataclass(frozen=True)
class Benchmark:
    """Questions and the directory their images lie in."""

    directory: Path
    name: str
    questions: tuple[Question, ...]

    @cached_property
    def entities(self) -> dict[str, str]:
        """entity_id -> entity_name, in the benchmark's order."""
        return {question.entity_id: question.entity_name for question in self.questions}

    @cached_property
    def realworld(self) -> frozenset[str]:
        """Ids of the people who stand for knowledge the base model had before."""
        return frozenset(question.entity_id for question in self.questions if question.split == "realworld")

    def image(self, question: Question) -> Image.Image:
        """The RGB image of a vqa question."""
        if question.image is None:
            raise ValueError(f"question {question.question_id} has no image")
        return Image.open(self.directory / question.image).convert("RGB")

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
            UserError: an unknown id, nobody to forget, or nobody left to retain.
        """
        unknown = [i for i in ids if i not in benchmark.entities]
        if unknown:
            known = ", ".join(list(benchmark.entities)[:5])
            raise UserError(
                f"--forget names {', '.join(unknown)}, not in benchmark {benchmark.name} (its ids: {known}, …)"
            )
        chosen = set(ids) or {q.entity_id for q in benchmark.questions if q.split == "forget"}
        if not chosen:
            raise UserError(
                f"benchmark {benchmark.name} suggests nobody to forget; choose with --forget ID[,ID…] "
                f"among {', '.join(list(benchmark.entities)[:5])}, … (unsee benchmark show lists them)"
            )
        real = benchmark.realworld - chosen
        retain = tuple(i for i in benchmark.entities if i not in chosen and i not in real)
        if not retain:
            raise UserError(
                f"--forget names everyone in benchmark {benchmark.name}; leave at least one person to retain"
            )
        return cls(
            forget=tuple(i for i in benchmark.entities if i in chosen),
            retain=retain,
            realworld=tuple(i for i in benchmark.entities if i in real),
        )

    @cached_property
    def split_of(self) -> dict[str, Split]:
        """entity_id -> forget, retain or realworld for this request."""
        return {i: split for split in SPLITS for i in getattr(self, split)}


def write_questions(directory: Path, questions: Sequence[Question]) -> None:
    """Write `questions.parquet` with the fixed schema."""
    table = pa.Table.from_pylist([asdict(q) for q in questions], schema=FEATURES.arrow_schema)
    pq.write_table(table, directory / "questions.parquet")


def load(directory: Path, *, verify: bool = True) -> Benchmark:
    """Read a complete benchmark directory.

    Raises:
        UserError: incomplete or damaged directory, or a table of another schema.
    """
    manifest = artifact.read(directory, "benchmark", verify=verify)
    table = pq.read_table(directory / "questions.parquet")
    if missing := set(FEATURES) - set(table.column_names):
        raise UserError(
            f"{directory / 'questions.parquet'} lacks the columns {sorted(missing)}; import the benchmark again"
        )
    rows = table.select(list(FEATURES)).to_pylist()
    questions = tuple(Question(**{**row, "options": row["options"] and tuple(row["options"])}) for row in rows)
    return Benchmark(directory=directory, name=manifest.facts["name"], questions=questions)
