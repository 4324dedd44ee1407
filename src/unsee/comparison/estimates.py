"""Means over seeds with hierarchical bootstrap intervals: seeds are drawn, and people within each drawn seed.

Every model is resampled with the same draws, so that differences between models are paired. People who are the same in
all seeds are drawn once for all of them. What is not known person by person (costs, relearning gaps) has a t-interval
over seeds: few seeds resampled give hardly more than their own range.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit

from unsee.comparison.seeds import Seed
from unsee.evaluation.metrics import CONFIDENCE
from unsee.report.summary import relearning_gaps

DRAWS = 2000
DISTANCE = "distance_to_retrained"
LOSS = "losses"
GAPS = ("before", "after", "gap", "gap_unseen", "gap_control", "gap_unseen_control", "gap_beyond_control")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n_seeds` seeds with its 95 % interval, None where there is only one of what it is over.

    n: how many people it is over, the same person in several seeds once; or seeds where nothing is known of people.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    n_seeds: int


@dataclass(frozen=True)
class Derived:
    """A quantity made of a model's metric and a reference model's; `of` takes shares or arrays of them."""

    reference: str
    of: Callable[[Any, Any], Any]
    applies: Callable[[str], bool]


DERIVED = {
    DISTANCE: Derived(
        "retrained",
        lambda own, other: abs(own - other),
        lambda metric: metric.startswith("forget/"),
    ),
    LOSS: Derived(
        "vanilla",
        lambda own, other: other - own,
        lambda metric: not metric.startswith("forget/") or "with_face" in metric,
    ),
}
"""Kinds of derived quantities; `{kind}/{metric}` names one. A distance counts accuracy below the reference's as well;
a loss is what others lost, and what is still known by name beside a portrait."""


def values_of(seed: Seed, name: str) -> dict[str, float | None]:
    """Everything measured of a model with one seed, by name: metrics, derived quantities, costs, relearning gaps, and
    what the method told of itself."""
    model = seed.models[name]
    values: dict[str, float | None] = {**model["metrics"], **model.get("cost", {}), **model.get("told", {})}
    for kind, derived in DERIVED.items():
        for metric in filter(derived.applies, model["metrics"]):
            own, other = model["metrics"][metric], seed.references[derived.reference]["metrics"].get(metric)
            values[f"{kind}/{metric}"] = None if own is None or other is None else derived.of(own, other)
    for budget, entry in attacks_of(seed, name).items():
        values |= {f"{budget}/{key}": entry[key] for key in GAPS}
    return values


def attacks_of(seed: Seed, name: str) -> dict[str, dict[str, Any]]:
    """`relearning/{sampling}/{percent}` -> that attack on a model, with its controls' gaps."""
    attacked = {"unlearned": seed.models[name], **seed.references}
    gaps = relearning_gaps({model: entry["relearning"] for model, entry in attacked.items()})
    return {
        f"relearning/{sampling}/{percent}": entry
        for sampling, entries in gaps.items()
        for percent, entry in sorted(entries.items(), key=lambda item: int(item[0]))
    }


class Estimates:
    """Makes the estimates of one comparison."""

    def __init__(self, seeds: Sequence[Seed]):
        self._seeds = seeds
        self._index = {name: index for index, name in enumerate(seeds[0].models)}
        self.values = [{name: values_of(seed, name) for name in seed.models} for seed in seeds]
        self._accuracies: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def mean(self, name: str, key: str) -> Estimate | None:
        """Mean over the seeds that measured it; None if none did."""
        return self._combine(key, {name: 1.0})

    def difference(self, first: str, second: str, key: str) -> Estimate | None:
        """First model minus second, paired."""
        return self._combine(key, {first: 1.0, second: -1.0})

    def _combine(self, key: str, weights: Mapping[str, float]) -> Estimate | None:
        found = [[values[name].get(key) for name in weights] for values in self.values]
        measured = tuple(index for index, values in enumerate(found) if None not in values)
        if not measured:
            return None
        values = np.array([found[index] for index in measured], dtype=float)
        signs = np.array(list(weights.values()))
        mean = float((values @ signs).mean())
        people = self._people(key, measured)
        n = people or len(measured)
        if n < 2:
            return Estimate(mean, None, None, n, len(measured))
        if not people:
            return Estimate(mean, *_t_interval(values @ signs), n, n)
        draws = np.stack([self._resampled(name, key, measured) for name in weights], axis=-1)
        return Estimate(mean, *_interval((draws @ signs).mean(axis=1), mean), n, len(measured))

    def _people(self, key: str, seeds: tuple[int, ...]) -> int:
        """How many people's answers are known in these seeds; 0 where they are not in each of them."""
        metric = _split(key)[1]
        if any(metric not in self._seeds[index].people for index in seeds):
            return 0
        per_seed = [self._seeds[index].people[metric] for index in seeds]
        return len(per_seed[0]) if self._same_people(metric, seeds) else sum(map(len, per_seed))

    def _same_people(self, metric: str, seeds: tuple[int, ...]) -> bool:
        return len({self._seeds[index].people[metric] for index in seeds}) == 1

    def _resampled(self, name: str, key: str, seeds: tuple[int, ...]) -> np.ndarray:
        """[DRAWS, seeds]."""
        derived, metric = _split(key)
        if (metric, seeds) not in self._accuracies:
            per_person = [self._seeds[index].per_person[metric] for index in seeds]
            self._accuracies[metric, seeds] = resample(per_person, self._same_people(metric, seeds))
        accuracies = self._accuracies[metric, seeds]
        own = accuracies[..., self._index[name]]
        return derived.of(own, accuracies[..., self._index[derived.reference]]) if derived else own


def resample(per_person: Sequence[np.ndarray], same_people: bool = False) -> np.ndarray:
    """Mean score of every model in each draw of as many seeds as there are, [DRAWS, seeds, models].

    Args:
        per_person: per seed, [people, models, 2] as in `Seed.per_person`.
        same_people: the people of all seeds are the same, in the same order: each draw of them is one for all seeds.
    """
    slots = len(per_person)
    means = []
    for index, people in enumerate(per_person):
        drawn = _people_drawn(0 if same_people else index, 1 if same_people else slots, len(people))
        sums, counts = np.moveaxis(np.tensordot(drawn, people, axes=1), -1, 0)
        means.append(np.broadcast_to(sums / counts, (DRAWS, slots, people.shape[1])))
    return np.stack(means)[_seeds_drawn(slots), np.arange(DRAWS)[:, None], np.arange(slots)]


@lru_cache(maxsize=32)
def _people_drawn(seed: int, slots: int, people: int) -> np.ndarray:
    """How often each person of the seed at this index is drawn, [DRAWS, slots, people]."""
    rng = np.random.default_rng([seed, slots, people])
    return rng.multinomial(people, np.full(people, 1 / people), (DRAWS, slots)).astype(float)


def _seeds_drawn(seeds: int) -> np.ndarray:
    """Indices of seeds, [DRAWS, seeds]."""
    return np.random.default_rng(seeds).integers(0, seeds, (DRAWS, seeds))


def _interval(draws: np.ndarray, mean: float) -> tuple[float, float]:
    """Percentiles of the draws, widened to the mean: resampling can only add to a distance that is near zero."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return min(float(low), mean), max(float(high), mean)


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    """Student's interval of the mean of at least two values."""
    n = len(values)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(n))
    return float(values.mean()) - half, float(values.mean()) + half


def _split(key: str) -> tuple[Derived | None, str]:
    """'losses/retain/vqa/accuracy' -> that kind of derived quantity and 'retain/vqa/accuracy'."""
    kind, _, metric = key.partition("/")
    return (DERIVED[kind], metric) if kind in DERIVED else (None, key)
