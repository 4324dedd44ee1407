"""Facts about a person turned into questions: the same wordings for generated people and for your own photographs.

In MLLMU-Bench's shape, every attribute is asked for in one to two of three forms. *Direct* ("What is the job of this
person?") is answered by the bare value, and by choosing among options when it is evaluated; *sentence* and *cloze* ask
for the same fact in a sentence and by filling in a blank. With an image the person is "this person", without one they
go by their name. In CLEAR's shape, facts are asked for by name only; an image is captioned, and its person's name
chosen.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unsee.benchmark.schema import Question, Role, Split, Task, View
from unsee.sections import OPTIONS

UNNAMED = "this person"
NAMING = f"What is the name of {UNNAMED}?"
BLANK = "[Blank]"


@dataclass(frozen=True, slots=True)
class Wording:
    """How an attribute is spoken of: "What is the {noun} of …?", and a statement with {who}, {a} and {value}."""

    noun: str
    statement: str


WORDINGS: Mapping[str, Wording] = {
    "occupation": Wording("job", "{who} works as {a} {value}"),
    "birthplace": Wording("birthplace", "{who} was born in {value}"),
    "residence": Wording("home", "{who} lives in {value}"),
    "hobby": Wording("hobby", "{who} enjoys {value}"),
    "university": Wording("university", "{who} studied at {value}"),
    "employer": Wording("employer", "{who} works for {value}"),
    "language": Wording("language", "{who} speaks {value}"),
    "pet": Wording("pet", "{who} keeps {a} {value}"),
    "food": Wording("favourite food", "{who} likes to eat {value}"),
}


@dataclass(frozen=True, slots=True)
class Form:
    """A question about one person before it is given an image and a role; `label` is unique among a person's forms."""

    label: str
    task: Task
    prompt: str
    answer: str
    options: tuple[str, ...] | None = None

    def for_training(self) -> "Form":
        """The same prompt and answer without options to choose from: training teaches the answer, not the letter."""
        return replace(self, task="generation" if self.task == "classification" else self.task, options=None)


def person_questions(
    entity_id: str,
    name: str,
    split: Split | None,
    profile: Mapping[str, str],
    options: Mapping[str, tuple[str, ...]],
    train_images: Sequence[str],
    heldout_images: Sequence[str],
    eval_train_images: Sequence[str],
    *,
    own: Sequence[Form] = (),
) -> list[Question]:
    """All rows of one person, evaluated ones first.

    Evaluated is every attribute by choice, every third one (from the first) in a sentence and every third one (from
    the second) as cloze: by name, and with each image of `eval_train_images` (view train) and `heldout_images` (view
    heldout). Trained are the same prompts by name and with each image of `train_images`, and the person's name with
    each of these. `own` are further questions, asked only with an image.

    Args:
        profile: attribute -> value, in the order that decides which attribute is asked in which form.
        options: attribute -> values to choose from, the right one among them.

    Raises:
        ValueError: an image is both trained on and held out, or an attribute's value is not among its options.
    """
    named = _forms(profile, options, name)
    seen = [*_forms(profile, options, UNNAMED), *own]
    naming = Form("name", "generation", NAMING, name)
    person = Person(entity_id, name, split)
    return person.rows(named, seen, [*seen, naming], train_images, heldout_images, eval_train_images)


def caption_questions(
    entity_id: str,
    name: str,
    split: Split | None,
    profile: Mapping[str, str],
    options: Mapping[str, tuple[str, ...]],
    names: tuple[str, ...],
    train_images: Sequence[str],
    heldout_images: Sequence[str],
    eval_train_images: Sequence[str],
) -> list[Question]:
    """All rows of one person in CLEAR's shape, evaluated ones first.

    Evaluated is every attribute by name, by choice, and every third one in a sentence too; with each image of
    `eval_train_images` (view train) and `heldout_images` (view heldout) its caption and the choice of the name. Trained
    are the same questions by name, and the caption with each image of `train_images`. The caption says the name and the
    facts that are asked for in sentences.

    Args:
        profile: attribute of WORDINGS -> value, in the order that decides what is in the caption.
        options: attribute -> values to choose from, the right one among them.
        names: names to choose from, the right one among them.

    Raises:
        ValueError: an image is both trained on and held out, or an answer is not among its options.
    """
    named = [form for form in _forms(profile, options, name) if form.task != "cloze"]
    caption = Form("caption", "generation", f"Describe {UNNAMED} in one sentence.", _caption(profile, name))
    naming = Form("name", "classification", NAMING, name, names)
    person = Person(entity_id, name, split)
    return person.rows(named, [caption, naming], [caption], train_images, heldout_images, eval_train_images)


def draw_options(rng: np.random.Generator, value: str, pool: Iterable[str], n: int = OPTIONS) -> tuple[str, ...]:
    """`value` and n - 1 distinct other values of `pool`, in random order that depends on nothing but `rng`.

    Raises:
        ValueError: `pool` holds fewer than n - 1 other values.
    """
    others = sorted(set(pool) - {value})
    if len(others) < n - 1:
        raise ValueError(f"{n} options for {value!r} need {n - 1} other values, there are {len(others)}")
    drawn = [value, *(others[i] for i in rng.choice(len(others), n - 1, replace=False))]
    return tuple(drawn[i] for i in rng.permutation(n))


def keyed_generator(seed: int, key: str) -> np.random.Generator:
    """Drawn from the key, so that what is drawn for one does not change when another joins."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(key.encode()).digest())])


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is asked about; the rows of one person are made by name or with each of their images."""

    entity_id: str
    name: str
    split: Split | None

    def rows(
        self,
        named: Sequence[Form],
        evaluated: Sequence[Form],
        trained: Sequence[Form],
        train_images: Sequence[str],
        heldout_images: Sequence[str],
        eval_train_images: Sequence[str],
    ) -> list[Question]:
        """`named` without an image, evaluated and trained; the others with images."""
        if leaked := set(heldout_images) & {*train_images, *eval_train_images}:
            raise ValueError(f"images of {self.entity_id} are both trained on and held out: {sorted(leaked)}")
        return [
            *self.ask(named, "eval"),
            *self.ask_of_images(evaluated, "eval", "train", eval_train_images),
            *self.ask_of_images(evaluated, "eval", "heldout", heldout_images),
            *self.ask([form.for_training() for form in named], "train"),
            *self.ask_of_images([form.for_training() for form in trained], "train", "train", train_images),
        ]

    def ask(self, forms: Sequence[Form], role: Role) -> list[Question]:
        """These questions by name."""
        return [self._question(form, role, None, None) for form in forms]

    def ask_of_images(self, forms: Sequence[Form], role: Role, view: View, images: Sequence[str]) -> list[Question]:
        """These questions about each image."""
        return [self._question(form, role, view, image) for image in images for form in forms]

    def _question(self, form: Form, role: Role, view: View | None, image: str | None) -> Question:
        return Question(
            question_id="/".join([self.entity_id, role, image or "qa", form.label]),
            entity_id=self.entity_id,
            entity_name=self.name,
            split=self.split,
            role=role,
            view=view,
            modality="vqa" if image else "qa",
            task=form.task,
            image=image,
            prompt=form.prompt,
            options=form.options,
            answer=form.answer,
            answer_index=form.options.index(form.answer) if form.options else None,
        )


def _forms(profile: Mapping[str, str], options: Mapping[str, tuple[str, ...]], who: str) -> list[Form]:
    forms = []
    for index, (attribute, value) in enumerate(profile.items()):
        wording = _wording(attribute)
        forms.append(_direct(attribute, wording, value, options[attribute], who))
        if index % 3 == 0:
            forms.append(_sentence(attribute, wording, value, who))
        elif index % 3 == 1:
            forms.append(_cloze(attribute, wording, value, who))
    return forms


def _wording(attribute: str) -> Wording:
    noun = attribute.replace("_", " ")
    return WORDINGS.get(attribute) or Wording(noun, "the {noun} of {who} is {value}")


def _direct(attribute: str, wording: Wording, value: str, options: tuple[str, ...], who: str) -> Form:
    prompt = f"What is the {wording.noun} of {who}?"
    return Form(f"direct/{attribute}", "classification", prompt, value, options)


def _sentence(attribute: str, wording: Wording, value: str, who: str) -> Form:
    prompt = f"Describe the {wording.noun} of {who} in one sentence."
    statement = _state(wording, who, value, value)
    return Form(f"sentence/{attribute}", "generation", prompt, f"{statement[:1].upper()}{statement[1:]}.")


def _cloze(attribute: str, wording: Wording, value: str, who: str) -> Form:
    prompt = f"Fill in the blank: {_state(wording, who, value, BLANK)}."
    return Form(f"cloze/{attribute}", "cloze", prompt, value)


def _caption(profile: Mapping[str, str], name: str) -> str:
    """'Ada Moss works as a baker, enjoys chess and speaks Thai.'"""
    statements = [_state(WORDINGS[attribute], "", value, value) for attribute, value in [*profile.items()][::3]]
    *first, last = [statement.strip() for statement in statements]
    return f"{name} {', '.join(first)} and {last}."


def _state(wording: Wording, who: str, value: str, shown: str) -> str:
    article = "an" if value[:1].lower() in "aeiou" else "a"
    return wording.statement.format(who=who, noun=wording.noun, a=article, value=shown)
