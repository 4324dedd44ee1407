"""How a step computes goes by what the hardware has, and is said."""

import pytest
import torch

from unsee.compute import Compute
from unsee.errors import UserError
from unsee.sections import ComputeSettings

AUTO = ComputeSettings(threads=1, device="auto", precision="auto")


@pytest.fixture
def card(monkeypatch):
    """card(bfloat16): as if there were a GPU that has bfloat16, or has it not."""

    def found(bfloat16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)

    return found


@pytest.mark.parametrize(("bfloat16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_is_taken_where_there_is_one_and_bfloat16_where_it_has_that(card, bfloat16, precision):
    card(bfloat16)
    assert (Compute.of(AUTO).device, Compute.of(AUTO).precision) == ("cuda", precision)
    asked = ComputeSettings(threads=1, device="cpu", precision="bfloat16")
    assert (Compute.of(asked).device, Compute.of(asked).precision) == ("cpu", "bfloat16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_the_cpu_in_float32_and_a_gpu_that_is_asked_for_is_missed():
    assert (Compute.of(AUTO).device, Compute.of(AUTO).precision) == ("cpu", "float32")
    with pytest.raises(UserError, match=r"compute\.device = cuda, but torch finds no CUDA device here"):
        Compute.of(ComputeSettings(threads=1, device="cuda"))


def test_what_was_chosen_is_said(capfd):
    Compute(precision="bfloat16", checkpointing=True, llm_bits=8).start()
    assert capfd.readouterr().out == (
        "» computing on the CPU with 1 thread in bfloat16, the LLM in 8 bits, activations computed twice\n"
    )
