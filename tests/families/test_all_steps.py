"""Every family goes through every step, on portraits of two shapes; what must hold across them does."""

import json

import pytest
import torch
from tiny_run import TinyRun, reported, through_all_steps

from unsee.mllm import checkpoint
from unsee.settings import load_settings

SETTINGS = """
compute: {threads: 1}
vanilla: {text_steps: 1, steps: 1, batch_images: 4, questions_per_image: 2}
statistics: {batch_images: 4}
prune: {threshold: {fraction: 0.1}, layers: 1}
unlearn:
  {epochs: 1, least_steps: 1, versions: 2, batch_forget_images: 4, batch_retain_images: 4, layers: 1, blends: 3,
   mask: {fraction: 0.5}, mask_on: update, learning_rate: 1e-3}
evaluation: {bootstrap: 20}
relearn: {percents: [50], samplings: [image], rank: 2, epochs: 1, batch_images: 4}
"""


@pytest.fixture
def settings(tmp_path, mllm):
    """Of the whole run, from this model as the base."""
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    checkpoint.save_full(mllm, tmp_path / "base")
    return load_settings("embedded", config=tmp_path / "tiny.yaml", assignments=[f"vanilla.base={tmp_path / 'base'}"])


def test_all_steps(settings, two_shapes, tmp_path, database):
    at = reported(through_all_steps(TinyRun(tmp_path / "run", settings, {}, {}), str(two_shapes.directory)))
    metrics = at.returned["evaluation-unlearned"]
    assert 0 <= metrics["forget/vqa/heldout_accuracy"] <= 1
    vanilla, unlearned = checkpoint.load(at["vanilla"]), checkpoint.load(at["unlearned"])
    tuned, before = unlearned.visual_parameters(1), vanilla.model.state_dict()
    changed = {n for n, t in unlearned.model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == set(tuned) == set(json.loads((at["unlearned"] / "delta.json").read_text())["changed"])
    salient = json.loads((at["unlearned"] / "mask.json").read_text())["tensors"]
    assert set(salient) == set(tuned)
    (mlp,) = unlearned.tower_mlps(1)
    silent = (mlp.outgoing.weight == 0).all(dim=0)
    assert int(silent.sum()) == round(0.1 * 48)
    for incoming in mlp.incoming:
        assert not incoming.weight[silent].any()
    curve = json.loads((at["unlearned"] / "history.json").read_text())
    assert set(curve[0]) == {"step", "forget_loss", "retain_loss", "vkd_loss"}
    (attacked,) = json.loads((at["relearning-unlearned"] / "relearning.json").read_text())["image"].values()
    assert len(attacked["curve"]) == 2
    summary = json.loads((at["report"] / "summary.json").read_text())
    assert summary["models"]["unlearned"]["forget/vqa/heldout_accuracy"] == metrics["forget/vqa/heldout_accuracy"]
    registered = json.loads((at["registration"] / "registration.json").read_text())["models"]
    assert registered["unlearned"]["source"] == at["unlearned"].as_uri()
