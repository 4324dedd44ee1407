"""Metrics over predictions: the same names for every model, each with a bootstrap interval over people."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from unsee.benchmark.schema import SPLITS, Split

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row of `predictions.parquet`: what was asked, what the model scored and said, and whether that was right.

    scores: mean log-probability per token of every option, in nats. Fields that do not apply are None.
    """

    question_id: str
    entity_id: str
    entity_name: str
    split: Split
    modality: str
    view: str | None
    task: str
    image: str | None
    prompt: str
    options: list[str] | None
    scores: list[float] | None
    answer: str
    chosen: str | None
    generated: str | None
    parsed: str | None
    correct: bool | None
    exact: bool | None
    contained: bool | None
    rouge_l: float | None


_TEXTS = pa.list_(pa.string())
PREDICTION_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("question_id", "entity_id", "entity_name", "split", "modality", "view", "task"), pa.string()),
        "image": pa.string(),
        "prompt": pa.string(),
        "options": _TEXTS,
        "scores": pa.list_(pa.float64()),
        **dict.fromkeys(("answer", "chosen", "generated", "parsed"), pa.string()),
        **dict.fromkeys(("correct", "exact", "contained"), pa.bool_()),
        "rouge_l": pa.float64(),
    }
)
"""Arrow schema of `predictions.parquet`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A mean over `questions` of `n` people with its 95 % interval, or None and the reason why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    questions: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's name, the task it is measured on, and what a prediction contributes to it."""

    name: str
    task: str
    of: Callable[[Prediction], float | None]


def _parsed(p: Prediction) -> float | None:
    return None if p.generated is None else float(p.parsed == p.answer)


MEASURES = (
    Measure("accuracy", "classification", lambda p: p.correct),
    Measure("parsed_accuracy", "classification", _parsed),
    Measure("exact", "classification", lambda p: p.exact),
    Measure("rouge_l", "generation", lambda p: p.rouge_l),
    Measure("cloze", "cloze", lambda p: p.exact),
    Measure("cloze_contained", "cloze", lambda p: p.contained),
)


def compute_metrics(predictions: Sequence[Prediction], bootstrap: int, seed: int) -> dict[str, Metric]:
    """All metrics of one model, `{split}/{modality}/{measure}`; what cannot be measured says why."""
    metrics: dict[str, Metric] = {}
    for split in SPLITS:
        rows = [p for p in predictions if p.split == split]
        nobody = None if rows else f"nobody in this request is in the {split} set"
        for name, measure, asked in _groups(rows):
            metrics[f"{split}/{name}"] = aggregate(_values(asked, measure), bootstrap, seed, nobody or _missing(asked))
    return metrics


def _groups(rows: Sequence[Prediction]) -> Iterable[tuple[str, Measure, list[Prediction]]]:
    """Name, measure, and the predictions it is measured on, of every metric of one split."""
    views = (("vqa", "", "train"), ("vqa", "heldout_", "heldout"), ("qa", "", None))
    for modality, prefix, view in views:
        asked = [p for p in rows if p.modality == modality and p.view == view]
        for measure in MEASURES:
            yield f"{modality}/{prefix}{measure.name}", measure, [p for p in asked if p.task == measure.task]
    for modality, name in (("qa_with_face", "accuracy"), ("qa_with_other_face", "other_face_accuracy")):
        accuracy = MEASURES[0]
        yield f"qa_with_face/{name}", accuracy, [p for p in rows if (p.modality, p.task) == (modality, accuracy.task)]


def _values(rows: Sequence[Prediction], measure: Measure) -> list[tuple[str, float]]:
    measured = [(p.entity_id, measure.of(p)) for p in rows]
    return [(entity, float(value)) for entity, value in measured if value is not None]


def _missing(rows: Sequence[Prediction]) -> str:
    """Why questions of one task and group have no value."""
    if not rows:
        return "no such question was asked"
    if all(p.generated is None for p in rows):
        return "free answers were not generated (evaluation.generate is false)"
    return "the model was asked for a letter, not for the answer itself (evaluation.choice is letter)"


def aggregate(values: Sequence[tuple[str, float]], bootstrap: int, seed: int, missing: str | None) -> Metric:
    """Mean of (entity, value) pairs, or `missing` as the reason why there are none.

    The interval resamples people, since answers of one person are not independent; of one person there is none.
    """
    if not values:
        return Metric(None, None, None, 0, 0, missing)
    totals = per_person(values)
    sums, counts = np.array(list(totals.values())).T
    low, high = interval(sums, counts, bootstrap, seed) if len(totals) > 1 else (None, None)
    return Metric(float(sums.sum() / counts.sum()), low, high, len(totals), len(values), None)


def per_person(values: Iterable[tuple[str, float]]) -> Mapping[str, tuple[float, int]]:
    """entity -> (sum of its values, how many)."""
    totals: dict[str, tuple[float, int]] = {}
    for entity, value in values:
        total, count = totals.get(entity, (0.0, 0))
        totals[entity] = (total + value, count + 1)
    return totals


def interval(sums: np.ndarray, counts: np.ndarray, bootstrap: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap of sum(sums) / sum(counts) over people, both arrays [people]."""
    drawn = np.random.default_rng(seed).integers(0, len(sums), (bootstrap, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
