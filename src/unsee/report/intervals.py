"""Paired bootstrap over people: how sure the difference between two models' answers to the same questions is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unsee.evaluation.metrics import Prediction, interval, per_person


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
    answered = _correct(first, split, modality, view), _correct(second, split, modality, view)
    people = per_person(_differences(*answered))
    if not people:
        return Difference(None, None, None, f"no {split} {modality} question was scored for both models")
    sums, counts = np.array(list(people.values())).T
    return difference_over_people(sums, counts, draws, seed)


def difference_over_people(sums: np.ndarray, counts: np.ndarray, draws: int, seed: int) -> Difference:
    """sum(sums) / sum(counts) over people with its interval. Both [people]: summed differences, how many questions."""
    value = float(sums.sum() / counts.sum())
    if len(sums) == 1:
        return Difference(value, None, None, "one person: no interval over people can be given")
    return Difference(value, *interval(sums, counts, draws, seed), None)


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


def _differences(first: dict[str, tuple[str, bool]], second: dict[str, tuple[str, bool]]) -> list[tuple[str, float]]:
    """(entity_id, 1, 0 or -1) of every question that both models answered."""
    common = [question_id for question_id in first if question_id in second]
    return [(first[q][0], float(first[q][1]) - float(second[q][1])) for q in common]
