"""MLLMU-Bench: 500 fictitious people and 153 celebrities, from the hub (`MLLMMU/MLLMU-Bench`) or a local copy.

`Full_Set` has one portrait of each fictitious person and what is asked about it, `ft_Data` what is trained, `Test_Set`
other views of the same people, `Retain_Set` the celebrities, who are its real-world set, and `forget_5`, `forget_10`
and `forget_15` who is to be forgotten. The forget sets are not nested; everyone else is retained.

Trained are the questions of `ft_Data` with the portrait and, where they ask about "this person", the same by name.
Evaluated are the benchmark's own tasks: with the portrait (view train), with the other views and the celebrities'
pictures, which nothing is trained on (view heldout), and those in text alone by name.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Json, field_validator, model_validator

from unsee.benchmark.folder import without_special_tokens
from unsee.benchmark.profile_questions import BLANK, Form, Person, keyed_generator
from unsee.benchmark.published import Many, Picture, Row, Tables, Text, save_picture
from unsee.benchmark.schema import Question, View
from unsee.sections import ImportSettings

GENERATION = "{question}\nAnswer the question based on your trained knowledge in one sentence accurately in ENGLISH."
CLOZE = "{question}\nPlease **ONLY** provide the correct answer that should replace the [Blank]."
SHOWN = re.compile(
    r"\b(?:this|the) (?:person|individual|man|woman)\b(?: (?:shown |depicted |pictured )?in (?:this|the) "
    r"(?:image|picture|photo(?:graph)?|portrait)\b)?",
    re.IGNORECASE,
)
"""How the benchmark speaks of whom the image shows."""

Kind = Literal["Image_Textual", "Pure_Text"]


class Choice(Row):
    """A question with lettered options."""

    Question: Text
    Options: dict[str, Text | None]
    Correct_Answer: str

    @model_validator(mode="after")
    def _has_answer(self) -> "Choice":
        if self.Options.get(self.letter) is None:
            raise ValueError(f"Correct_Answer = {self.Correct_Answer!r} is no letter of an option; correct it")
        return self

    @property
    def letter(self) -> str:
        """Of the right option."""
        return self.Correct_Answer.strip(" .:").upper()

    def form(self, index: int, seed: int, entity: str) -> Form:
        """The options in an order drawn from the seed."""
        given = [text for text in self.Options.values() if text is not None]
        order = keyed_generator(seed, f"{entity}/{self.Question}").permutation(len(given))
        options, answer = tuple(given[i] for i in order), str(self.Options[self.letter])
        return Form(f"choice/{index}", "classification", self.Question, answer, options)


class Choices(Row):
    """`Classification_Task`."""

    Image_Textual_Questions: Many[Choice]
    Pure_Text_Questions: Many[Choice]


class Told(Row):
    """A question of `Generation_Task`, or a sentence of `Mask_Task` with a blank in it."""

    Question: Text
    Ground_Truth: Text
    Type: Kind

    def generation(self, index: int) -> Form:
        """In the benchmark's words for a free answer."""
        prompt = GENERATION.format(question=self.Question)
        return Form(f"generation/{index}", "generation", prompt, self.Ground_Truth)

    def cloze(self, index: int) -> Form:
        """In the benchmark's words for filling a blank."""
        prompt = CLOZE.format(question=re.sub("__+", BLANK, self.Question))
        return Form(f"cloze/{index}", "cloze", prompt, self.Ground_Truth)


class Identified(Row):
    """A row of which the person matters."""

    ID: Text


class Asked(Identified):
    """What is asked about a person."""

    Classification_Task: Choices
    Generation_Task: Many[Told]
    Mask_Task: Many[Told]

    def forms(self, kind: Kind, seed: int) -> list[Form]:
        """All questions of a kind."""
        task = self.Classification_Task
        choices = task.Pure_Text_Questions if kind == "Pure_Text" else task.Image_Textual_Questions
        return [
            *(choice.form(i, seed, self.ID) for i, choice in enumerate(choices)),
            *(told.generation(i) for i, told in enumerate(self.Generation_Task) if told.Type == kind),
            *(told.cloze(i) for i, told in enumerate(self.Mask_Task) if told.Type == kind),
        ]


class Profile(Asked):
    """A row of `Full_Set` and `Retain_Set`; of the biography, whose keys may end in a colon, the name."""

    image: Picture
    biography: Json[dict[str, Any]]

    @field_validator("biography")
    @classmethod
    def _has_name(cls, biography: dict[str, Any]) -> dict[str, Any]:
        fields = {key.strip(" :").casefold(): value for key, value in biography.items()}
        name = str(fields.get("name") or "").strip()
        if not name:
            raise ValueError("has no Name; add it")
        return {**fields, "name": without_special_tokens(name)}

    @property
    def name(self) -> str:
        """The person's."""
        return str(self.biography["name"])


class OtherViews(Asked):
    """A row of `Test_Set`."""

    images: Many[Picture]


Maybe = Annotated[Text | None, BeforeValidator(lambda given: given or None)]


class Fact(Row):
    """A question that is trained with the portrait. One that lacks a part is left out, as the benchmark does."""

    Question: Maybe = None
    Answer: Maybe = None

    def form(self, index: int) -> Form:
        """As it is trained."""
        return Form(f"fact/{index}", "generation", self.Question or "", self.Answer or "")


class Trained(Identified):
    """A row of `ft_Data`."""

    metadata: Json[list[Fact]]

    @property
    def forms(self) -> list[Form]:
        """Its whole questions."""
        return [fact.form(i) for i, fact in enumerate(self.metadata) if fact.Question and fact.Answer]


def questions(tables: Tables, directory: Path, settings: ImportSettings) -> list[Question]:
    """The benchmark's questions, its images written to the directory. Problems are left in `tables`."""
    trained = _by_id(tables, "ft_Data", Trained)
    forget = _by_id(tables, f"forget_{settings.forget_percent}", Identified)
    people: dict[str, Person] = {}
    found: list[Question] = []
    for row in _distinct(tables, "Full_Set", Profile):
        person = people[row.ID] = Person(row.ID, row.name, "forget" if row.ID in forget else "retain")
        portrait = save_picture(directory, f"people/{len(people):04d}", row.image)
        found += _evaluated(person, row, "train", [portrait], settings.seed)
        found += person.ask(row.forms("Pure_Text", settings.seed), "eval")
        if row.ID in trained:
            found += person.ask_of_images(trained[row.ID].forms, "train", "train", [portrait])
            found += person.ask(_by_name(trained[row.ID].forms, row.name), "train")
    viewed = set()
    for number, views in enumerate(_distinct(tables, "Test_Set", OtherViews)):
        viewed.add(views.ID)
        if views.ID in people:
            images = [save_picture(directory, f"views/{number:04d}-{i}", p) for i, p in enumerate(views.images)]
            found += _evaluated(people[views.ID], views, "heldout", images, settings.seed)
    for number, row in enumerate(_distinct(tables, "Retain_Set", Profile)):
        person = Person(f"celebrity-{row.ID}", row.name, "realworld")
        picture = save_picture(directory, f"celebrities/{number:04d}", row.image)
        found += _evaluated(person, row, "heldout", [picture], settings.seed)
        found += person.ask(row.forms("Pure_Text", settings.seed), "eval")
    tables.add_missing("Full_Set", forget, people, f"people to forget (forget_{settings.forget_percent})")
    tables.add_missing("Full_Set", viewed, people, "people of Test_Set")
    tables.add_missing("ft_Data", people, trained, "people of Full_Set")
    tables.add_missing("Test_Set", people, viewed, "people of Full_Set")
    return found


def _evaluated(person: Person, row: Asked, view: View, images: Sequence[str], seed: int) -> list[Question]:
    return person.ask_of_images(row.forms("Image_Textual", seed), "eval", view, images)


def _by_name(forms: Iterable[Form], name: str) -> list[Form]:
    """The same about somebody by name, of those that ask about whom the image shows."""
    return [
        replace(form, prompt=SHOWN.sub(lambda _: name, form.prompt), answer=SHOWN.sub(lambda _: name, form.answer))
        for form in forms
        if SHOWN.search(form.prompt)
    ]


AnyIdentified = TypeVar("AnyIdentified", bound=Identified)


def _by_id(tables: Tables, configuration: str, model: type[AnyIdentified]) -> dict[str, AnyIdentified]:
    return {row.ID: row for row in _distinct(tables, configuration, model)}


def _distinct(tables: Tables, configuration: str, model: type[AnyIdentified]) -> Iterator[AnyIdentified]:
    """The rows; a second one of a person is a problem."""
    seen = set()
    for where, row in tables.rows(configuration, model):
        if row.ID in seen:
            tables.problems.append(f"{where}, ID = {row.ID!r}: there is an earlier row of this person; keep one")
        else:
            seen.add(row.ID)
            yield row
