"""Means and intervals over seeds and people: known values, pairing, and how often an interval holds the truth."""

import numpy as np
import pytest
from made_seeds import Compared

from unsee.comparison.estimates import DRAWS, Estimates, resample
from unsee.comparison.seeds import Seed, read_seeds
from unsee.report.checks import FORGET_METRIC, REALWORLD_METRIC, RETAIN_METRIC


def per_person(*right: list[int], of: int = 10) -> np.ndarray:
    """[people, models, 2]: per model, how many of `of` questions each person's answers were right."""
    return np.stack([np.array(right, dtype=float).T, np.full((len(right[0]), len(right)), of)], axis=-1)


def estimate_of(*seeds: np.ndarray) -> np.ndarray:
    """Mean over seeds of the first model in each draw."""
    return resample(seeds)[..., 0].mean(axis=1)


def test_draws_are_means_over_people_of_means_over_questions() -> None:
    drawn = resample([per_person([0, 10]), per_person([5, 5])])
    assert drawn.shape == (DRAWS, 2, 1)
    assert set(np.unique(drawn)) == {0.0, 0.5, 1.0}


def test_seeds_are_drawn_too() -> None:
    """People who all answer alike: only the draw of seeds makes a difference."""
    means = estimate_of(per_person([2, 2, 2]), per_person([6, 6, 6]))
    assert {round(float(mean), 9) for mean in means} == {0.2, 0.4, 0.6}
    assert abs((means == 0.2).mean() - 0.25) < 0.05


def test_people_are_drawn_anew_each_time_a_seed_is_drawn() -> None:
    """One seed's people drawn twice are not the same draw: the variance of their mean is half."""
    one, two = estimate_of(per_person([0, 10])), estimate_of(per_person([0, 10]), per_person([0, 10]))
    assert two.var() == pytest.approx(one.var() / 2, rel=0.15)


def test_people_who_are_the_same_in_all_seeds_are_drawn_once_for_all() -> None:
    """Asked again with another seed, two people do not become four: the variance of their mean stays."""
    people = per_person([0, 10])
    one, two = resample([people]), resample([people, people], same_people=True)
    assert two.shape == (DRAWS, 2, 1)
    assert two.mean(axis=1).var() == pytest.approx(one.var(), rel=0.15)
    assert np.array_equal(two[:, 0], two[:, 1])


def test_models_share_their_draws() -> None:
    drawn = resample([per_person([0, 3, 9], [1, 4, 10]), per_person([2, 8], [3, 9])])
    assert np.allclose(drawn[..., 1] - drawn[..., 0], 0.1)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        truths = rng.normal(0.5, 0.05, 6)
        seeds = [per_person(rng.binomial(10, np.clip(rng.normal(t, 0.2, 20), 0, 1)).tolist()) for t in truths]
        low, high = np.quantile(estimate_of(*seeds), [0.025, 0.975])
        held += low <= 0.5 <= high
    assert held / 150 > 0.88


def test_the_interval_of_a_difference_in_distance_holds_the_truth_about_as_often_as_it_says() -> None:
    """Three seeds; the second model is on average where the first is, the third ten points above; all deviate."""
    rng = np.random.default_rng(0)
    above, trials = np.array([0.0, 0.0, 0.1]), 60

    def closer(levels: np.ndarray) -> np.ndarray:
        """How much nearer to the first model the second is than the third, negative where it is."""
        first, second, third = np.moveaxis(levels, -1, 0)
        return np.abs(second - first) - np.abs(third - first)

    def deviating(count: int) -> np.ndarray:
        return 0.27 + above + rng.normal(0, 0.03, (count, 3))

    truth, held = closer(deviating(100_000)).mean(), 0
    for _ in range(trials):
        people = np.clip(rng.normal(deviating(3)[:, None], 0.15, (3, 20, 3)), 0, 1)
        seeds = [per_person(*(rng.binomial(18, seed).T.tolist()), of=18) for seed in people]
        low, high = np.quantile(closer(resample(seeds)).mean(axis=1), [0.025, 0.975])
        held += low <= truth <= high
    assert held / trials > 0.88


@pytest.fixture(scope="module")
def seeds(two_seeds: Compared) -> list[Seed]:
    root = two_seeds.directory.parent
    return read_seeds([root / f"seed-{seed}" / "comparison" for seed in (0, 1)])


def test_people_give_the_same_metrics_as_the_evaluation(seeds: list[Seed]) -> None:
    for seed in seeds:
        assert FORGET_METRIC in seed.per_person
        for metric, people in seed.per_person.items():
            sums, counts = people.sum(axis=0).T
            expected = [model["metrics"][metric] for model in seed.models.values()]
            assert sums / counts == pytest.approx(expected)


def test_n_counts_people_where_their_answers_are_known_and_seeds_otherwise(seeds: list[Seed]) -> None:
    estimates = Estimates(seeds)
    for metric, people in {FORGET_METRIC: 8, RETAIN_METRIC: 10, REALWORLD_METRIC: 2}.items():
        found = estimates.mean("vkd", metric)
        assert found is not None
        assert (found.n, found.n_seeds) == (people, 2)
    cost = estimates.mean("vkd", "seconds_per_epoch")
    assert cost is not None
    assert (cost.n, cost.n_seeds) == (2, 2)


def test_what_is_known_by_seed_alone_has_a_t_interval(seeds: list[Seed]) -> None:
    """Of 3 and 5: Student's 97.5 % quantile with one degree of freedom is 12.706, the standard error 1."""
    cost = Estimates(seeds).mean("vkd", "seconds_per_epoch")
    assert cost is not None
    assert (cost.mean, cost.low, cost.high) == pytest.approx((4.0, 4 - 12.706, 4 + 12.706), abs=1e-3)
    same = Estimates(seeds).mean("vkd", "trainable_parameters")
    assert same is not None
    assert same.low == same.mean == same.high == 1000


def test_difference_to_itself_is_surely_nothing(seeds: list[Seed]) -> None:
    found = Estimates(seeds).difference("retrain", "retrained", FORGET_METRIC)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
