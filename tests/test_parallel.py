"""Two processes that meet over gloo find what one finds: losses, weights, masks, statistics and predictions.

In float64, where what differs in truth can be told from what is rounded otherwise.
"""

import numpy as np
import pytest
from parallel_work import done

from unsee.launching import PROCESSES
from unsee.tracking import NoTracker

QUICK = [
    ("vkd", "none"), ("finetuning", "none"), ("relearning", "none"),
    ("mmunlearner", "llm"), ("interrupted", "llm"), ("lora", "llm"),
]  # fmt: skip
SLOW = [
    ("vkd", "llm"), ("finetuning", "llm"), ("relearning", "llm"), ("resisting", "llm"),
    ("mmunlearner", "none"), ("interrupted", "none"), ("lora", "none"), ("resisting", "none"),
]  # fmt: skip
OTHERS = [("statistics", "none"), ("evaluation", "none")]
LOW = ("low_precision", "llm")
TOGETHER = [*QUICK, *OTHERS, LOW]
WITHOUT_GRADIENT = ".self_attn.k_proj.bias"
"""Attention does not see it, so that its gradient is rounding alone, which Adam makes as large as any."""


@pytest.fixture(scope="module")
def found(tmp_path_factory, small_benchmark):
    """found(works): what they give in one process, and in two."""
    kept = {}

    def found(works):
        name = str(works)
        if name not in kept:
            kept[name] = [in_processes(count, works) for count in (1, 2)]
        return kept[name]

    def in_processes(count, works):
        scratch = tmp_path_factory.mktemp("scratch")
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(PROCESSES, str(count))
            return done(works, small_benchmark.directory, scratch, scratch / "out", NoTracker())

    return found


def numbers(found, place=""):
    """Everything inside nested dictionaries and lists, by its place."""
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    if isinstance(found, dict | list | tuple):
        return {name: value for key, one in inside for name, value in numbers(one, f"{place}/{key}").items()}
    return {place: found}


def assert_same(found, expected, tolerance):
    """Equal but for this share of the largest number of an array; of a loss that is zero, for rounding."""
    found, expected = numbers(found), numbers(expected)
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if value is None or isinstance(value, str | bool):
            assert found[place] == value, place
        elif not place.endswith(WITHOUT_GRADIENT):
            difference = np.abs(np.asarray(found[place], dtype=float) - value).max()
            assert difference <= tolerance * np.abs(value).max() + 1e-12, place


def masks_of(found):
    """Which weights are salient, of all that have a gradient, bool [N]."""
    masks = [mask.ravel() for name, mask in found.get("masks", {}).items() if not name.endswith(WITHOUT_GRADIENT)]
    return np.concatenate([[], *masks])


def assert_same_training(one, two):
    agree = masks_of(one) == masks_of(two)
    assert agree.sum() >= 0.9999 * len(agree)
    if agree.all():
        assert_same(two, one, 1e-8)
    else:  # where a mask differs, so does the weight
        assert_same(two["curve"], one["curve"], 1e-5)


@pytest.mark.parametrize("work", QUICK, ids=":".join)
def test_a_training_gives_the_same_losses_masks_and_weights(found, work):
    one, two = found(TOGETHER)
    assert_same_training(one[work], two[work])


@pytest.mark.slow
@pytest.mark.parametrize("work", SLOW, ids=":".join)
def test_every_training_does_with_a_whole_and_with_a_sharded_llm(found, work):
    one, two = found(SLOW)
    assert_same_training(one[work], two[work])


@pytest.mark.parametrize("work", OTHERS, ids=":".join)
def test_statistics_and_predictions_are_the_same(found, work):
    one, two = found(TOGETHER)
    assert_same(two[work], one[work], 1e-8 if work[0] == "evaluation" else 1e-6)  # importance is summed in float32


def test_a_sharded_llm_trains_in_bfloat16_with_recomputed_activations_too(found):
    one, two = found(TOGETHER)
    assert_same(two[LOW], one[LOW], 1e-3)


def test_a_sharded_training_goes_on_from_what_it_saved_to_the_same_bits(found):
    _, two = found(TOGETHER)
    interrupted, undisturbed = two["interrupted", "llm"], two["mmunlearner", "llm"]
    assert interrupted.pop("saved") == 2
    interrupted, undisturbed = numbers(interrupted), numbers(undisturbed)
    assert interrupted.keys() == undisturbed.keys()
    assert all(np.array_equal(interrupted[place], value) for place, value in undisturbed.items())
