"""Eq. 8 and 11 share one threshold rule: [ratio >= threshold], the threshold given as a value or as a fraction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsee.sections import ThresholdSettings
from unsee.thresholds import select

RATIOS = {"a": torch.tensor([[0.0, 0.5], [1.0, 2.0]]), "b": torch.tensor([3.0, torch.inf, 0.0, 0.25])}

fractions = st.integers(0, 100).map(lambda percent: percent / 100)  # st.floats refuses flushed denormals
entries = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 7.0, float("inf")]), min_size=1, max_size=20)


def test_a_value_selects_the_entries_that_reach_it():
    selection = select(RATIOS, ThresholdSettings(value=1.0))
    assert selection.chosen["a"].tolist() == [[False, False], [True, True]]
    assert selection.chosen["b"].tolist() == [True, True, False, False]
    assert (selection.value, selection.fraction) == (1.0, 4 / 8)


def test_a_fraction_takes_the_largest_ratios_of_all_tensors_together():
    selection = select(RATIOS, ThresholdSettings(fraction=3 / 8))
    assert selection.chosen["a"].tolist() == [[False, False], [False, True]]
    assert selection.chosen["b"].tolist() == [True, True, False, False]
    assert (selection.value, selection.fraction) == (2.0, 3 / 8)


@pytest.mark.parametrize("threshold", [{"value": 0.0}, {"value": -1.0}, {"fraction": 1.0}])
def test_a_ratio_of_zero_is_never_selected(threshold):
    selection = select(RATIOS, ThresholdSettings(**threshold))
    assert not selection.chosen["a"][0, 0]
    assert not selection.chosen["b"][2]
    assert selection.fraction == 6 / 8


def test_a_fraction_of_nothing_selects_nothing():
    selection = select(RATIOS, ThresholdSettings(fraction=0.0))
    assert not any(chosen.any() for chosen in selection.chosen.values())
    assert (selection.value, selection.fraction) == (float("inf"), 0.0)


@given(st.dictionaries(st.sampled_from("abc"), entries, min_size=1), fractions)
def test_a_fraction_selects_at_least_its_share_and_more_only_by_ties(lists, fraction):
    ratios = {key: torch.tensor(values) for key, values in lists.items()}
    selection = select(ratios, ThresholdSettings(fraction=fraction))
    flat = torch.cat(list(ratios.values()))
    wanted = round(fraction * len(flat))
    chosen = torch.cat([selection.chosen[key] for key in ratios])
    above = flat > selection.value
    assert int(above.sum()) <= wanted
    assert int(chosen.sum()) >= min(wanted, int((flat > 0).sum()))
    assert torch.equal(chosen, (flat >= selection.value) & (flat > 0) if wanted else torch.zeros_like(chosen))
    assert selection.fraction == int(chosen.sum()) / len(flat)


@given(st.dictionaries(st.sampled_from("abc"), entries, min_size=1), fractions)
def test_the_value_found_for_a_fraction_selects_the_same(lists, fraction):
    ratios = {key: torch.tensor(values) for key, values in lists.items()}
    by_fraction = select(ratios, ThresholdSettings(fraction=fraction))
    if by_fraction.value < float("inf"):
        by_value = select(ratios, ThresholdSettings(value=by_fraction.value))
        assert all(torch.equal(by_value.chosen[key], by_fraction.chosen[key]) for key in ratios)
