"""One seed of a comparison, as a `comparison-seed` artifact holds it: seed.json and answers.parquet."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unsee.errors import UserError
from unsee.storage import artifact

REFERENCES = ("vanilla", "retrained")
ANSWER_COLUMNS = (
    "question_id",
    "entity_id",
    "entity_name",
    "split",
    "modality",
    "view",
    "task",
    "correct",
    "exact",
    "rouge_l",
)
"""Of a prediction, what statistics need; `answers.parquet` has them for every model, told apart by `name`."""

_PERSON = ("name", "entity_id", "entity_name", "split", "modality", "view", "task")
_SCORED = {
    "accuracy": ("classification", "correct"),
    "exact": ("classification", "exact"),
    "rouge_l": ("generation", "rouge_l"),
    "cloze": ("cloze", "exact"),
}


@dataclass(frozen=True)
class Seed:
    """What was measured with one seed. Models are vanilla and retrained, and the methods.

    subject: the models' "family" (their `model_type`), the benchmark's "shape", and its name as "benchmark". methods:
    name -> {"settings", "metrics", "not_measured", "cost", "told", "relearning"}; references: likewise, without
    settings, cost, and what the method told of itself. measured_with: the settings that all were evaluated and attacked
    with, but for the seed. answers: one row per model and question.
    """

    seed: int
    subject: dict[str, str]
    measured_with: dict[str, Any]
    references: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    answers: pa.Table

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """References and methods by name, in an order that is the same for all seeds of a comparison."""
        return {name: self.references[name] for name in REFERENCES} | self.methods

    @cached_property
    def per_person(self) -> dict[str, np.ndarray]:
        """Metric -> [people, models, 2]: summed score and number of questions of everyone whom all models were asked
        about; metrics that answers.parquet cannot tell are left out."""
        return {metric: np.array([*people.values()], dtype=float) for metric, people in self._asked.items()}

    @cached_property
    def people(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Metric -> id and name of the people of `per_person`, in its order. Another benchmark may have other people
        under the same ids."""
        return {metric: tuple(people) for metric, people in self._asked.items()}

    @cached_property
    def _asked(self) -> dict[str, dict[tuple[str, str], list[tuple[float, int]]]]:
        scored = sorted({column for _, column in _SCORED.values()})
        aggregations = [(column, how) for column in scored for how in ("sum", "count")]
        found: dict[str, dict[tuple[str, str], dict[str, tuple[float, int]]]] = defaultdict(lambda: defaultdict(dict))
        for row in self.answers.group_by(_PERSON).aggregate(aggregations).to_pylist():
            for measure, (task, column) in _SCORED.items():
                if row["task"] == task and row[f"{column}_count"]:
                    scores = (row[f"{column}_sum"], row[f"{column}_count"])
                    found[_metric(row, measure)][row["entity_id"], row["entity_name"]][row["name"]] = scores
        asked = {
            metric: {
                person: [people[person][name] for name in self.models]
                for person in sorted(people)
                if people[person].keys() >= self.models.keys()
            }
            for metric, people in found.items()
        }
        return {metric: people for metric, people in asked.items() if people}


def read_seeds(directories: Sequence[Path]) -> list[Seed]:
    """Seeds in ascending order.

    Raises:
        UserError: an incomplete or damaged artifact, no seed, one twice, or seeds that did not measure the same methods
            with the same settings.
    """
    seeds = sorted(map(_read, directories), key=lambda seed: seed.seed)
    if not seeds:
        raise UserError("there is no seed to compare; give at least one comparison-seed artifact")
    first = seeds[0]
    for before, seed in pairwise(seeds):
        if seed.seed == before.seed:
            raise UserError(f"seed {seed.seed} is given twice; give each seed once")
        _require_same(first, seed)
    return seeds


def _read(directory: Path) -> Seed:
    artifact.read(directory, "comparison-seed")
    told = json.loads((directory / "seed.json").read_text())
    answers = pq.read_table(directory / "answers.parquet")
    methods = dict(sorted(told["methods"].items()))
    return Seed(told["seed"], told["subject"], told["measured_with"], told["references"], methods, answers)


def _require_same(first: Seed, seed: Seed) -> None:
    for what in ("family", "shape"):
        if seed.subject[what] != first.subject[what]:
            raise UserError(
                f"seed {seed.seed} has {what} {seed.subject[what]}, seed {first.seed} {first.subject[what]}; "
                "compare seeds of one model family on benchmarks of one shape"
            )
    if changed := _differing(first.measured_with, seed.measured_with):
        raise UserError(
            f"seed {seed.seed} was not evaluated and attacked with the settings of seed {first.seed} "
            f"({', '.join(changed)}); run all seeds with the same settings"
        )
    if different := first.methods.keys() ^ seed.methods.keys():
        names = ", ".join(sorted(different))
        raise UserError(f"seeds {first.seed} and {seed.seed} do not both have {names}; run the missing methods")
    for name in first.methods:
        if changed := _differing(*(settings(each.methods[name]) for each in (first, seed))):
            raise UserError(
                f"{name} has other settings with seed {seed.seed} than with seed {first.seed} ({', '.join(changed)}); "
                "run all seeds with the same settings"
            )


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def settings(method: dict[str, Any]) -> dict[str, Any]:
    """A method's settings but for the seed."""
    return {key: value for key, value in method["settings"].items() if key != "seed"}


def _metric(row: dict[str, Any], measure: str) -> str:
    """The metric that a group of answers belongs to, named as in `unsee.evaluation.metrics`."""
    if row["modality"] == "qa_with_other_face":
        return f"{row['split']}/qa_with_face/other_face_{measure}"
    heldout = "heldout_" if (row["modality"], row["view"]) == ("vqa", "heldout") else ""
    return f"{row['split']}/{row['modality']}/{heldout}{measure}"
