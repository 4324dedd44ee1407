"""Paired bootstrap over people: how sure the difference between two models' answers to the same questions is."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unsee.report.inputs import Prediction


@dataclass(frozen=True, slots=True)
class Difference:
    """First accuracy minus second over the same questions; None where it cannot be measured, for the `reason`."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


def accuracy_difference(
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    *,
    split: str,
    modality: str,
    view: str | None,
    draws: int,
    seed: int,
) -> Difference:
    """Difference of option-likelihood accuracies with its 95 % interval over people.

    `view` None takes every view. With one person there is a value and no interval: resampling one person always gives
    that person.
    """
    per_person = _differences_by_person(_correct(first, split, modality, view), _correct(second, split, modality, view))
    if not per_person:
        return Difference(None, None, None, f"no {split} {modality} question was scored for both models")
    sums = np.array([sum(differences) for differences in per_person])
    counts = np.array([len(differences) for differences in per_person])
    value = float(sums.sum() / counts.sum())
    if len(per_person) == 1:
        return Difference(value, None, None, "one person: no interval over people can be given")
    picked = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    low, high = np.percentile(sums[picked].sum(axis=1) / counts[picked].sum(axis=1), [2.5, 97.5])
    return Difference(value, float(low), float(high), None)


def _correct(
    predictions: Sequence[Prediction], split: str, modality: str, view: str | None
) -> dict[str, tuple[str, bool]]:
    """question_id -> (entity_id, correct) of the scored classification questions."""
    wanted = (split, modality, "classification")
    return {
        p.question_id: (p.entity_id, p.correct)
        for p in predictions
        if p.correct is not None and (p.split, p.modality, p.task) == wanted and view in (None, p.view)
    }


def _differences_by_person(first: dict[str, tuple[str, bool]], second: dict[str, tuple[str, bool]]) -> list[list[int]]:
    people: dict[str, list[int]] = defaultdict(list)
    for question_id in first.keys() & second.keys():
        person, correct = first[question_id]
        people[person].append(int(correct) - int(second[question_id][1]))
    return [people[person] for person in sorted(people)]
