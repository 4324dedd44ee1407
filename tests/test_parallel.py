"""Two processes that meet over gloo find what one finds: losses, weights, statistics, masks and predictions.

In float64, where what differs in truth can be told from what is rounded otherwise.
"""

import numpy as np
import pytest
from parallel_work import everything

from unsee.launching import PROCESSES
from unsee.tracking import NoTracker

TRAININGS = ("vkd", "resisting", "mmunlearner", "interrupted", "fine-tuning", "LoRA", "relearning")


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_benchmark):
    """run(processes, sharding): what `everything` gives."""

    def run(processes, sharding="none"):
        scratch = tmp_path_factory.mktemp("scratch")
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(PROCESSES, str(processes))
            return everything(small_benchmark.directory, scratch, sharding, scratch / "out", NoTracker())

    return run


@pytest.fixture(scope="module")
def alone(run):
    return run(1)


@pytest.fixture(scope="module", params=["none", "llm"])
def together(request, run):
    """Of two processes, each with the whole model and each with a share of the LLM."""
    return run(2, request.param)


def assert_same(found, expected, tolerance, place=""):
    """Equal structures whose numbers differ by no more than this share of the largest of an array."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_same(found[key], value, tolerance, f"{place}/{key}")
    elif isinstance(expected, list | tuple) and not (expected and isinstance(expected[0], float)):
        assert len(found) == len(expected), place
        for number, value in enumerate(expected):
            assert_same(found[number], value, tolerance, f"{place}/{number}")
    elif expected is None or isinstance(expected, str | bool):
        assert found == expected, place
    else:
        wanted = np.asarray(expected)
        assert np.abs(np.asarray(found) - wanted).max() <= tolerance * np.abs(wanted).max(), place


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_gives_the_same_losses_and_weights(alone, together, name):
    masks = together[name].get("masks", {}), alone[name].get("masks", {})
    assert masks[0].keys() == masks[1].keys()
    assert all(np.mean(found == masks[1][tensor]) >= 0.9999 for tensor, found in masks[0].items())
    assert_same(without_masks(together[name]), without_masks(alone[name]), 1e-8)


def without_masks(found):
    return {key: value for key, value in found.items() if key != "masks"}


def test_a_training_goes_on_from_what_it_saved_to_the_same_bits(together):
    assert together["interrupted"]["saved"] == 2
    assert_same({**together["interrupted"], "saved": None}, {**together["mmunlearner"], "saved": None}, 0)


def test_statistics_and_predictions_are_the_same(alone, run):
    found = run(2)
    assert_same(found["statistics"], alone["statistics"], 1e-8)
    assert_same(found["evaluation"], alone["evaluation"], 1e-8)
