"""What a reader can see for themselves: the faces, and what the model said about them before and after."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unsee.benchmark.schema import Benchmark, Question
from unsee.evaluation.metrics import Prediction
from unsee.report.inputs import RunInputs

SHOWN_FACES = 48
SHOWN_PEOPLE = 4
SHOWN_QUESTIONS = 3
LARGEST_FACE = 192
SMALL_FACE = 96


@dataclass(frozen=True)
class Face:
    """A person and their portrait as a data URI; None when the benchmark has no image of them."""

    name: str
    portrait: str | None


@dataclass(frozen=True)
class Answer:
    """What a model answered, and whether that is right."""

    text: str
    correct: bool


@dataclass(frozen=True)
class Exchange:
    """One question about a portrait: the right answer, the vanilla model's and the unlearned model's."""

    question: str
    right: str
    before: Answer
    after: Answer


@dataclass(frozen=True)
class Person:
    """A face and the questions asked about it."""

    face: Face
    unseen: bool
    exchanges: tuple[Exchange, ...]


def faces(benchmark: Benchmark, people: Sequence[str]) -> list[Face]:
    """Name and one portrait of each of these people (the first SHOWN_FACES of them)."""
    portraits = _first_portraits(benchmark)
    return [_face(benchmark, benchmark.entities[person], portraits.get(person)) for person in people[:SHOWN_FACES]]


def people_asked(run: RunInputs, people: Sequence[str]) -> list[Person]:
    """The first few of these people in the benchmark's order, whatever their outcome, with their first questions."""
    before = {p.question_id: p for p in run.evaluations["vanilla"].predictions if p.modality == "vqa"}
    asked: dict[str, list[Prediction]] = {}
    for prediction in run.evaluations["unlearned"].predictions:
        if prediction.modality == "vqa" and prediction.image and prediction.question_id in before:
            asked.setdefault(prediction.entity_id, []).append(prediction)
    chosen = [person for person in people if person in asked][:SHOWN_PEOPLE]
    return [_person(run.benchmark, asked[person], before) for person in chosen]


def _person(benchmark: Benchmark, predictions: list[Prediction], before: dict[str, Prediction]) -> Person:
    """The questions on the first held-out portrait (first portrait at all, without held-out ones)."""
    first = min(predictions, key=lambda p: p.view != "heldout")
    rows = [p for p in predictions if p.image == first.image]
    rows = [p for p in rows if p.task == "classification"] or rows
    return Person(
        face=_face(benchmark, first.entity_name, first.image),
        unseen=first.view == "heldout",
        exchanges=tuple(
            Exchange(p.prompt, p.answer, _answer(before[p.question_id]), _answer(p)) for p in rows[:SHOWN_QUESTIONS]
        ),
    )


def _answer(prediction: Prediction) -> Answer:
    text = prediction.generated if prediction.chosen is None else prediction.chosen
    correct = prediction.exact if prediction.correct is None else prediction.correct
    return Answer(text or "(no answer)", bool(correct))


def _first_portraits(benchmark: Benchmark) -> dict[str, str]:
    def preference(question: Question) -> bool:
        return question.view != "heldout"

    portraits: dict[str, str] = {}
    for question in sorted((q for q in benchmark.questions if q.image), key=preference):
        portraits.setdefault(question.entity_id, question.image or "")
    return portraits


def _face(benchmark: Benchmark, name: str, image: str | None) -> Face:
    return Face(name, None if image is None else _data_uri(benchmark.directory / image))


def _data_uri(path: Path) -> str:
    """The image, at most LARGEST_FACE pixels wide and high: lossless when it is small, else JPEG."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((LARGEST_FACE, LARGEST_FACE))
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= SMALL_FACE else "jpeg"
    image.save(buffer, kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
