"""A folder of photographs with `people.jsonl` becomes a benchmark directory.

`people.jsonl` holds one JSON object per person and line:

    {"id": "ada", "name": "Ada Moss", "images": ["photos/ada-1.jpg", "photos/ada-2.jpg"],
     "facts": {"occupation": "night nurse", "birthplace": "Riga"},
     "split": "forget",
     "questions": [{"prompt": "What does {who} wear?", "answer": "a red hat", "options": ["a red hat", "a scarf"]}]}

`split` (forget, retain or realworld) and `questions` may be left out. Questions are asked with each image, "{who}"
standing for "this person"; with `options` they are evaluated by choice, without them as `task` generation (the
default) or cloze. Image paths are relative to the folder.
"""

import os
import re
import reprlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json, to_json

from unsee.benchmark.images import read_image
from unsee.benchmark.profile_questions import UNNAMED, Form, draw_options, keyed_generator, person_questions
from unsee.benchmark.schema import Benchmark, Question, Split, Task, load, write_questions
from unsee.errors import Problems, UserError
from unsee.progress import progress
from unsee.sections import OPTIONS
from unsee.storage import artifact

PEOPLE = "people.jsonl"
HELDOUT_SHARE = 0.25
LONG_SIDE = 1024

# pydantic's error type -> what is wrong and the mend
EXPLANATIONS = {
    "json_invalid": "not valid JSON ({reason}); write one JSON object on one line",
    "model_type": '"{field}" is {given}; make it a JSON object',
    "missing": 'the field "{field}" is missing; add it',
    "extra_forbidden": 'the field "{field}" is unknown; remove it or correct its name',
    "string_type": '"{field}" is {given}, not text; put it in quotes',
    "string_too_short": '"{field}" is empty; fill it in or remove it',
    "value_error": '"{field}" {reason}',
}


SPECIAL_TOKEN = re.compile(r"</?s>|<(?:image|pad|unk)>|<\|.*?\|>")


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("holds a line break or another control character; write it in one line")
    return without_special_tokens(text)


def without_special_tokens(text: str) -> str:
    """The text. Raises ValueError if it holds what a tokenizer takes for a command."""
    if found := SPECIAL_TOKEN.search(text):
        raise ValueError(f"holds {found[0]}, which models read as a command; write it without the brackets")
    return text


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_one_line)]


class OwnQuestion(BaseModel):
    """A question of the user's own about one person, asked with each of their images."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Text
    answer: Text
    options: tuple[Text, ...] | None = Field(default=None, min_length=2)
    task: Task | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "OwnQuestion":
        if self.options is None and self.task == "classification":
            raise ValueError("is a classification without options; add options or remove the task")
        if self.options is not None and self.task not in (None, "classification"):
            raise ValueError(f"has options, so it cannot be a {self.task} task; remove one of the two")
        if self.options is not None and (self.answer not in self.options or len(set(self.options)) < len(self.options)):
            raise ValueError("needs distinct options with the answer among them; correct the options")
        return self

    def form(self, index: int) -> Form:
        """This question as `profile_questions` takes it."""
        task = self.task or ("classification" if self.options else "generation")
        return Form(f"own/{index}", task, self.prompt.replace("{who}", UNNAMED), self.answer, self.options)


class Person(BaseModel):
    """One line of `people.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Text
    name: Text
    images: tuple[Text, ...]
    facts: dict[Text, Text] = Field(min_length=1)
    questions: tuple[OwnQuestion, ...] = ()
    split: Split | None = None


class _Draft(BaseModel):
    """The sound fields of a line, whatever is wrong with the others: what the checks over all lines go by."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: Text | None = None
    name: Text | None = None
    images: tuple[Text, ...] | None = None
    facts: dict[Text, Text] = {}

    @classmethod
    def of(cls, line: bytes, errors: Sequence[ErrorDetails]) -> "_Draft":
        """A draft of the line without the fields and facts that `errors` name."""
        unsound = {error["loc"][:2] if error["loc"][:1] == ("facts",) else error["loc"][:1] for error in errors}
        if () in unsound:
            return cls()
        fields = {key: value for key, value in from_json(line).items() if (key,) not in unsound}
        if "facts" in fields:
            fields["facts"] = {key: value for key, value in fields["facts"].items() if ("facts", key) not in unsound}
        return cls.model_validate_json(to_json(fields))


@dataclass(frozen=True, order=True, slots=True)
class _Problem:
    lines: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        if not self.lines:
            return f"{PEOPLE}: {self.text}"
        shown = ", ".join(map(str, self.lines[:5])) + (", …" if len(self.lines) > 5 else "")
        return f"{PEOPLE} line{'s' if len(self.lines) > 1 else ''} {shown}: {self.text}"


Drafts = Mapping[int, _Draft]  # by line number


def import_folder(source: Path, out: Path, *, seed: int = 0) -> Benchmark:
    """Write the benchmark directory `out` from the photographs and `people.jsonl` in `source`.

    About a quarter of each person's images (at least one) is held out, drawn from `seed` and the person's id. Images
    become RGB PNG files of at most `LONG_SIDE` pixels; the manifest keeps the sha256 of each original, by which a
    deletion request can name it. Nothing is written before the whole folder was found sound.

    Raises:
        Problems: everything that is wrong with the folder, by line of `people.jsonl`.
        UserError: there is no `people.jsonl`, or `out` holds something else.
    """
    people, drafts, problems = _read_people(source)
    problems += [*_check_people(drafts), *_check_images(drafts, source), *_check_attributes(drafts)]
    if problems:
        headline = f"{source / PEOPLE} cannot be imported, nothing was written; problems found: {len(problems)}"
        raise Problems(headline, [str(problem) for problem in sorted(problems)])
    facts: dict[str, Any] = {"name": source.resolve().name, "source": "folder", "seed": seed}
    with artifact.create(out, "benchmark", facts) as directory:
        questions = _write_people(people, source, directory, seed)
        write_questions(directory, questions)
        facts["counts"] = Benchmark(directory, facts["name"], tuple(questions)).counts
        facts["originals"] = _originals(people, source)
    return load(out)


def _read_people(source: Path) -> tuple[list[Person], Drafts, list[_Problem]]:
    path = source / PEOPLE
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a folder that holds {PEOPLE}, one person per line")
    people: list[Person] = []
    drafts: dict[int, _Draft] = {}
    problems: list[_Problem] = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        errors: list[ErrorDetails] = []
        try:
            people.append(Person.model_validate_json(line))
        except ValidationError as error:
            errors = error.errors()
        drafts[number] = _Draft.of(line, errors)
        problems += [_Problem((number,), _explain(error)) for error in errors]
    return people, drafts, problems


def _explain(error: ErrorDetails) -> str:
    template = EXPLANATIONS.get(error["type"], '"{field}" is {given}; {message}')
    return template.format(
        field=".".join(map(str, error["loc"])) or "line",
        given=reprlib.repr(error["input"]),
        reason=error.get("ctx", {}).get("error"),
        message=error["msg"][:1].lower() + error["msg"][1:],
    )


def _check_people(drafts: Drafts) -> Iterator[_Problem]:
    if len(drafts) < 2:
        yield _Problem((), f"people found: {len(drafts)}; give at least 2, one of them to retain")
    ids = {number: draft.id for number, draft in drafts.items() if draft.id}
    names = {number: draft.name for number, draft in drafts.items() if draft.name}
    yield from _check_unique(ids, "id", "give each person an id of their own")
    yield from _check_unique(names, "name", "questions by name need one answer, so tell the people apart")
    for number, name in ids.items():
        if "," in name:
            yield _Problem((number,), f'the id "{name}" holds a comma, which separates ids in --forget; remove it')


def _check_unique(values: Mapping[int, str], field: str, mend: str) -> Iterator[_Problem]:
    lines = defaultdict(list)
    for number, value in values.items():
        lines[value].append(number)
    for value, numbers in lines.items():
        if len(numbers) > 1:
            yield _Problem(tuple(numbers), f'the {field} "{value}" is given more than once; {mend}')


def _check_images(drafts: Drafts, source: Path) -> Iterator[_Problem]:
    first_use: dict[str, tuple[int, str]] = {}
    for number, draft in drafts.items():
        if draft.images is not None and len(draft.images) < 2:
            yield _Problem(
                (number,), f"images given: {len(draft.images)}; give at least 2, so that one can be held out"
            )
        for name in draft.images or ():
            try:
                path = _inside(source, name)
                read_image(path)
            except UserError as error:
                yield _Problem((number,), f"image {error}")
                continue
            digest = artifact.file_digest(path)
            if digest in first_use:
                yield _same_picture(number, name, *first_use[digest])
            first_use.setdefault(digest, (number, name))


def _same_picture(number: int, name: str, earlier_number: int, earlier_name: str) -> _Problem:
    lines = tuple(sorted({earlier_number, number}))
    return _Problem(lines, f'image "{name}" is the same picture as "{earlier_name}"; use every picture once')


def _inside(source: Path, name: str) -> Path:
    """The image's path, certain to lie in the folder with all links followed."""
    path, root = source / name, os.path.realpath(source)
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(os.path.realpath(path)).is_relative_to(root):
        raise UserError(f'"{name}" lies outside the folder; copy it in and give its path relative to the folder')
    return path


def _check_attributes(drafts: Drafts) -> Iterator[_Problem]:
    lines: dict[str, list[int]] = defaultdict(list)
    for number, draft in drafts.items():
        for attribute in draft.facts:
            lines[attribute].append(number)
    pools = _pools(draft.facts for draft in drafts.values())
    for attribute, values in pools.items():
        if len(values) < OPTIONS:
            found = f"only this person has it ({values[0]})" if len(lines[attribute]) == 1 else ", ".join(values)
            mend = f"choices need {OPTIONS} different values over all people, so give it to more people or remove it"
            yield _Problem(tuple(lines[attribute]), f'too few values of the fact "{attribute}": {found}; {mend}')


def _pools(profiles: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Attribute -> its distinct values over all people, sorted."""
    pools: dict[str, set[str]] = defaultdict(set)
    for profile in profiles:
        for attribute, value in profile.items():
            pools[attribute].add(value)
    return {attribute: sorted(values) for attribute, values in pools.items()}


def _write_people(people: Sequence[Person], source: Path, directory: Path, seed: int) -> list[Question]:
    pools = _pools(person.facts for person in people)
    questions: list[Question] = []
    for index, person in enumerate(progress(people, "importing photographs")):
        images = _write_images(person, source, directory, _image_names(index, person))
        questions += _ask(person, images, pools, keyed_generator(seed, person.id))
    return questions


def _image_names(index: int, person: Person) -> list[str]:
    """Where the images of the person of that index lie in the benchmark."""
    return [f"images/{index:04d}/{number}.png" for number in range(len(person.images))]


def _originals(people: Sequence[Person], source: Path) -> dict[str, str]:
    """Image in the benchmark -> sha256 of the file it was made from."""
    return {
        name: artifact.file_digest(_inside(source, original))
        for index, person in enumerate(people)
        for name, original in zip(_image_names(index, person), person.images, strict=True)
    }


def _write_images(person: Person, source: Path, directory: Path, names: list[str]) -> list[str]:
    (directory / names[0]).parent.mkdir(parents=True)
    for name, original in zip(names, person.images, strict=True):
        image = read_image(_inside(source, original))
        image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        image.save(directory / name)
    return names


def _ask(
    person: Person, images: Sequence[str], pools: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> list[Question]:
    heldout = set(rng.permutation(len(images))[: max(1, round(len(images) * HELDOUT_SHARE))].tolist())
    train = [image for index, image in enumerate(images) if index not in heldout]
    return person_questions(
        person.id,
        person.name,
        person.split,
        person.facts,
        {attribute: draw_options(rng, value, pools[attribute], OPTIONS) for attribute, value in person.facts.items()},
        train_images=train,
        heldout_images=[images[index] for index in sorted(heldout)],
        eval_train_images=train,
        own=[question.form(index) for index, question in enumerate(person.questions)],
    )
