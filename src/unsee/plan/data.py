"""Benchmarks by their sizes: of the published ones without their rows, and a few people of any."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from PIL import Image

from unsee.benchmark.schema import SPLITS, Benchmark, ForgetRequest, Question, Role, Split, View
from unsee.mllm.families import Mllm
from unsee.sections import AnyBenchmark, BenchmarkSettings

WORDS = ("name", "of", "this", "person", "was", "born", "in", "the", "is")


@dataclass(frozen=True)
class Group:
    """So many people of a split: images of each that are trained and held out, and questions about an image and by
    name, trained and evaluated."""

    split: Split
    people: int
    trained_images: int
    heldout_images: int
    trained: tuple[int, int]
    evaluated: tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Groups of people; tokens of a question, of its answer and of an option; pixels of an image."""

    groups: tuple[Group, ...]
    tokens: tuple[int, int, int]
    pixels: tuple[int, int]


def sizes_of(settings: AnyBenchmark) -> Sizes:
    """MLLMU-Bench: 500 people and 153 of the real world, 14 to 19 trained questions each, one picture to train and one
    of the Test_Set. CLEAR: 200 authors of some 19 pictures, 20 questions by name; 395 pictures of those who stay, some
    21 people, are evaluated, and a quarter of what is evaluated is held out; 518 pictures of the real world with a
    question each. Lengths in tokens and the pictures' pixels are ours: they do not say."""
    if isinstance(settings, BenchmarkSettings):
        people = settings.forget, settings.retain, 20
        views = settings.train_views, settings.heldout_views
        alike = (Group(split, many, *views, (9, 9), (9, 9)) for split, many in zip(SPLITS, people, strict=True))
        return Sizes(tuple(alike), (10, 4, 3), (64, 64))
    percent = settings.forget_percent
    if settings.layout == "mllmu":
        forget = 500 * percent // 100
        fictitious = zip(SPLITS, (forget, 500 - forget), strict=False)
        own = (Group(split, many, 1, 1, (17, 17), (8, 8)) for split, many in fictitious)
        return Sizes((*own, Group("realworld", 153, 0, 1, (0, 0), (8, 8))), (14, 16, 6), (1024, 1024))
    forget = 200 * percent // 100
    groups = (
        Group("forget", forget, 14, 5, (1, 20), (2, 20)),
        Group("retain", 21, 14, 5, (1, 20), (2, 20)),
        Group("retain", 200 - forget - 21, 19, 0, (1, 20), (0, 0)),
        Group("realworld", 518, 0, 1, (0, 0), (1, 0)),
    )
    return Sizes(groups, (12, 60, 6), (1024, 1024))


@dataclass(frozen=True)
class Imagined(Benchmark):
    """A benchmark whose images are all of one size, and are not there."""

    pixels: tuple[int, int] = (64, 64)

    def image(self, question: Question) -> Image.Image:
        return Image.new("RGB", self.pixels)


def of_one_size(benchmark: Benchmark, mllm: Mllm) -> Imagined:
    """The benchmark as if every image had the size of the one that becomes most tokens: any of them may be in a batch.

    Raises:
        UserError: an image that cannot be read.
    """
    shown = {question.image: question for question in benchmark.questions if question.image}
    sizes = {benchmark.image(question).size for question in shown.values()}
    most = max(sorted(sizes), key=lambda size: mllm.at(mllm.frame_of(*size)).image_tokens)
    return Imagined(benchmark.directory, benchmark.name, benchmark.questions, pixels=most)


def imagined(settings: AnyBenchmark) -> Imagined:
    """A benchmark of the sizes of what the settings name."""
    sizes, numbers, persons, questions = sizes_of(settings), count(), count(), []
    for group in sizes.groups:
        for person in islice(persons, group.people):
            seen: list[tuple[str, View]] = [(f"{person}/{n}.png", "train") for n in range(group.trained_images)]
            held: list[tuple[str, View]] = [(f"{person}/held{n}.png", "heldout") for n in range(group.heldout_images)]
            asked: list[tuple[Role, str | None, View | None, int]] = [("train", *v, group.trained[0]) for v in seen]
            asked += [("eval", *view, group.evaluated[0]) for view in [*seen, *held]]
            asked += [("train", None, None, group.trained[1]), ("eval", None, None, group.evaluated[1])]
            for role, image, view, many in asked:
                row = role, image, view
                questions += [_question(n, person, group.split, *row, sizes.tokens) for n in islice(numbers, many)]
    return Imagined(Path(), "imagined", tuple(questions), pixels=sizes.pixels)


def _question(
    number: int,
    person: int,
    split: Split,
    role: Role,
    image: str | None,
    view: View | None,
    tokens: tuple[int, int, int],
) -> Question:
    """A question of so many words, each of which is one token."""
    asked, answered, chosen = tokens
    options = tuple(_words(chosen, shift) for shift in range(4)) if role == "eval" else None
    return Question(
        question_id=str(number), entity_id=str(person), entity_name=str(person), split=split, role=role, view=view,
        modality="vqa" if image else "qa", task="classification" if options else "generation", image=image,
        prompt=_words(asked, number), options=options, answer=options[0] if options else _words(answered, number),
        answer_index=0 if options else None,
    )  # fmt: skip


def _words(many: int, shift: int) -> str:
    return " ".join(WORDS[(shift + place) % len(WORDS)] for place in range(many))


def few(benchmark: Benchmark, request: ForgetRequest, images: Sequence[int]) -> tuple[Benchmark, ForgetRequest]:
    """So many trained images of people to forget and to retain, and all else that is asked about these people."""
    by_person: dict[str, dict[str, None]] = {}
    for question in benchmark.select(role="train", modality="vqa"):
        by_person.setdefault(question.entity_id, {})[str(question.image)] = None
    chosen, shown = [], set[str]()
    for people, wanted in zip((request.forget, request.retain), images, strict=True):
        own = [(person, image) for person in people for image in by_person.get(person, ())][:wanted]
        shown |= {image for _, image in own}
        chosen.append(tuple(dict.fromkeys(person for person, _ in own)))
    kept = {*chosen[0], *chosen[1]}
    asked = [q for q in benchmark.questions if q.entity_id in kept]
    questions = tuple(q for q in asked if q.role == "eval" or q.image is None or q.image in shown)
    return replace(benchmark, questions=questions), ForgetRequest(chosen[0], chosen[1], ())
