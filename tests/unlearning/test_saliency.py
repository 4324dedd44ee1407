"""Eq. 10-11: the mask, at one bit per weight, over exactly the tensors that are tuned."""

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unsee.errors import UserError
from unsee.sections import ThresholdSettings
from unsee.unlearning.saliency import BitMask, SaliencyMask, require_live, saliency_mask

shapes = st.lists(st.integers(0, 9), min_size=0, max_size=3)


@given(shapes, st.integers(0, 2**32))
def test_a_packed_mask_unpacks_to_itself_in_an_eighth_of_the_bytes(shape, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = BitMask.pack(mask)
    unpacked = packed.unpack()
    assert unpacked.dtype == torch.bool
    assert unpacked.shape == mask.shape
    assert torch.equal(unpacked, mask)
    assert packed.bits.nbytes == -(-mask.numel() // 8)


FORGET = {"w": torch.tensor([[4.0, 1.0], [0.0, 3.0]]), "b": torch.tensor([0.0, 8.0])}
OTHERS = [
    {"w": torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "b": torch.tensor([5.0, 1.0])},
    {"w": torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "b": torch.tensor([5.0, 1.0])},
]
"""Ratios: w [[2, 0.5], [0/0, inf]], b [0, 4]."""


def test_eq_11_by_value():
    mask = saliency_mask(FORGET, OTHERS, ThresholdSettings(value=2.0))
    assert mask.masks["w"].unpack().tolist() == [[True, False], [False, True]]
    assert mask.masks["b"].unpack().tolist() == [False, True]
    assert mask.threshold == 2.0


def test_eq_11_by_the_fraction_kept_over_all_tensors():
    mask = saliency_mask(FORGET, OTHERS, ThresholdSettings(fraction=2 / 6))
    assert mask.masks["w"].unpack().tolist() == [[False, False], [False, True]]
    assert mask.masks["b"].unpack().tolist() == [False, True]
    assert mask.threshold == 4.0


def test_eq_10_adds_the_other_sets_up_as_they_come():
    seen = []

    def measured():
        for other in OTHERS:
            assert not any(earlier() is not None for earlier in seen)
            found = {name: tensor.clone() for name, tensor in other.items()}
            seen.append(weakref.ref(found["w"]))
            yield found
            del found

    mask = saliency_mask(FORGET, measured(), ThresholdSettings(value=2.0))
    assert len(seen) == 2
    assert mask.masks["w"].unpack().tolist() == [[True, False], [False, True]]


def test_a_weight_that_matters_to_nobody_is_not_salient_at_any_threshold():
    for threshold in (ThresholdSettings(value=0.0), ThresholdSettings(fraction=1.0)):
        mask = saliency_mask(FORGET, OTHERS, threshold)
        assert not mask.masks["w"].unpack()[1, 0]
        assert not mask.masks["b"].unpack()[0]


def test_density_counts_salient_entries_per_tensor():
    mask = saliency_mask(FORGET, OTHERS, ThresholdSettings(value=2.0))
    assert mask.density == {"w": {"kept": 2, "of": 4}, "b": {"kept": 1, "of": 2}}


def masks(**shapes):
    return SaliencyMask(
        {name: BitMask.pack(torch.ones(shape, dtype=torch.bool)) for name, shape in shapes.items()}, 1.0
    )


PARAMETERS = {"fc1": nn.Parameter(torch.zeros(2, 3)), "fc2": nn.Parameter(torch.zeros(3))}


def test_a_mask_of_every_tunable_tensor_is_live():
    assert require_live(masks(fc1=(2, 3), fc2=(3,)), PARAMETERS) is None


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"fc1": (2, 3)}, r"does not cover the tunable tensors \(fc2\)"),
        ({"fc1": (2, 3), "fc2": (3,), "old": (1,)}, r"does not cover the tunable tensors \(old\)"),
        ({"base.fc1": (2, 3), "fc2": (3,)}, r"does not cover the tunable tensors \(base\.fc1\)"),
        ({"fc1": (3, 2), "fc2": (3,)}, r"mask of fc1 has another shape"),
    ],
    ids=["missing", "left over", "renamed", "reshaped"],
)
def test_a_mask_that_would_silently_not_bite_is_refused(shapes, words):
    with pytest.raises(UserError, match=words + r".*collect statistics again"):
        require_live(masks(**shapes), PARAMETERS)
