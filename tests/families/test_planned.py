"""Every family's steps are planned: what they run, answers token by token included, runs without contents."""

import pytest

from unsee.mllm import checkpoint
from unsee.plan import plan
from unsee.settings import load_settings

SMALL = """
compute: {threads: 1}
vanilla: {text_steps: 0, steps: 1, batch_images: 1, questions_per_image: 1}
statistics: {batch_images: 1}
prune: {layers: 1}
unlearn:
  {epochs: 1, least_steps: 1, versions: 1, batch_forget_images: 1, batch_retain_images: 1, micro_batch_images: 1,
   layers: 1, blends: 1}
evaluation: {batch_images: 1, generate: true}
relearn: {percents: [50], samplings: [image], rank: 2, epochs: 1, batch_images: 1}
"""


@pytest.mark.long
def test_every_step_is_planned(mllm, two_shapes, tmp_path):
    checkpoint.save_full(mllm, tmp_path / "base")
    (tmp_path / "small.yaml").write_text(SMALL)
    base = f"vanilla.base={tmp_path / 'base'}"
    settings = load_settings("embedded", config=tmp_path / "small.yaml", assignments=[base])
    found = plan(settings, two_shapes.directory, both_ways=False)
    assert list(found.steps) == ["build-vanilla", "collect-statistics", "unlearn", "evaluate", "relearn-attack"]
    for step in found.steps.values():
        assert min(step.peak_device_bytes, step.flops_per_epoch, step.image_tokens_per_epoch) > 0
