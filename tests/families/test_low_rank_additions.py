"""Every family is fine-tuned by low-rank additions to its LLM, as the published benchmarks make vanilla models."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from unsee.mllm import checkpoint
from unsee.sections import LoraSettings
from unsee.steps import build_vanilla
from unsee.tracking import NoTracker


@pytest.fixture
def settings(mllm, tmp_path):
    """An epoch of two or three steps, from this model as the base."""
    checkpoint.save_full(mllm, tmp_path / "base")
    return LoraSettings(
        base=str(tmp_path / "base"), rank=2, alpha=4, dropout=0.0, epochs=1, warmup_epochs=0, batch_questions=16,
        micro_batch_questions=16, by_name=True, learning_rate=1e-2, weight_decay=0.0, compute={"threads": 1}, seed=0,
    )  # fmt: skip


def test_a_vanilla_model_by_low_rank_additions_is_a_plain_one_whose_llm_s_linear_layers_alone_have_changed(
    mllm, settings, two_shapes, tmp_path
):
    build_vanilla.run(settings, two_shapes.directory, tmp_path / "vanilla", NoTracker())
    before = mllm.model.state_dict()
    after = AutoModelForImageTextToText.from_pretrained(tmp_path / "vanilla", dtype=torch.float32).state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    llm = {module: name for name, module in mllm.model.named_modules() if isinstance(module, nn.Linear)}
    assert changed == {f"{llm[m]}.weight" for m in mllm.language_model.modules() if m in llm}
