"""What `unsee bench` compares is the same work: in float64 both implementations agree, at tiny sizes of both workloads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unsee.bench import compare, measure, memory, workloads
from unsee.bench.ours import Ours
from unsee.bench.stock import Stock
from unsee.bench.workloads import RECIPES, Recipe

TOLERANCE = 1e-8
TINY = ("benchmark.forget=1", "benchmark.retain=1", "benchmark.train_views=2", "benchmark.heldout_views=1")
EMBEDDED = replace(RECIPES["embedded"], assignments=TINY, batch_rows=(5, 64), repetitions=1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("bench") / "benchmark"
    EMBEDDED.build(directory)
    return directory


def test_ours_and_plain_agree_in_losses_gradients_scores_and_fisher(drawn: Path):
    differences = compare.relative_differences(EMBEDDED, drawn)
    assert differences.keys() == {"losses", "gradients", "option_scores", "fisher"}
    assert max(differences.values()) <= TOLERANCE


def test_importance_agrees_although_plain_runs_the_tower_for_every_question(drawn: Path):
    ours, stock = Ours(EMBEDDED.build(drawn)).statistics(), Stock(EMBEDDED.build(drawn), 7).statistics()
    assert ours.importance.keys() == stock.importance.keys()
    for layer, expected in stock.importance.items():
        torch.testing.assert_close(ours.importance[layer], expected, rtol=1e-4, atol=1e-6)


def test_a_comparison_of_different_models_is_noticed(drawn: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workloads, "SEED", 1)
    other = replace(EMBEDDED, make_mllm=lambda: workloads.embedded_model.make(torch.randint(100, ()).item()))
    assert max(compare.relative_differences(other, drawn).values()) > TOLERANCE


def test_the_epoch_of_both_ends_in_the_same_weights(drawn: Path):
    ours, stock = Ours(EMBEDDED.build(drawn)), Stock(EMBEDDED.build(drawn), 7)
    ours.epoch()
    stock.epoch()
    for name, parameter in ours.unlearning.parameters.items():
        torch.testing.assert_close(parameter, stock.parameters[name], rtol=1e-3, atol=2e-4, msg=name)


def test_the_llava_workload_has_the_token_geometry_of_llava():
    settings = RECIPES["llava"]
    mllm = settings.make_mllm()
    assert mllm.image_tokens == 576
    assert mllm.model.config.vision_config.image_size == 336
