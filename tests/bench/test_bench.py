"""What `unsee bench` compares is the same work: in float64 both implementations agree."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from two_questions import two_questions

from unsee.bench import compare, measure
from unsee.bench.float64 import to_float64
from unsee.bench.ours import Ours
from unsee.bench.stock import Stock
from unsee.bench.workloads import RECIPES
from unsee.mllm import embedded

TOLERANCE = 1e-8
TINY = ("benchmark.forget=1", "benchmark.retain=1", "benchmark.train_views=2", "benchmark.heldout_views=1")
EMBEDDED = replace(RECIPES["embedded"], assignments=TINY, batch_rows=(5, 64), repetitions=1)
FEW = replace(EMBEDDED, wording=two_questions)


def _ours64(drawn: Path, micro_batch_images: int) -> Ours:
    changes = ("unlearn.batch_retain_images=4", f"unlearn.micro_batch_images={micro_batch_images}")
    workload = EMBEDDED.build(drawn, *changes)
    to_float64(workload.mllm)
    return Ours(workload)


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


def test_a_comparison_of_different_models_is_noticed(drawn: Path):
    seeds = iter((1, 2))
    other = replace(FEW, make_mllm=lambda: embedded.make(next(seeds)))
    assert max(compare.relative_differences(other, drawn).values()) > TOLERANCE


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_step_in_micro_batches_equals_the_step_in_one(drawn: Path, size: int):
    whole, split = (_ours64(drawn, micro_batch_images=images) for images in (8, size))
    losses, gradients = split.gradients()
    expected_losses, expected_gradients = whole.gradients()
    assert losses == pytest.approx(expected_losses, rel=TOLERANCE)
    for name, expected in expected_gradients.items():
        assert (gradients[name] - expected).norm() <= TOLERANCE * expected.norm(), name


def test_the_bench_writes_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "RECIPES", {"embedded": FEW})
    measure.main(tmp_path / "bench.json")
    figures = json.loads((tmp_path / "bench.json").read_text())["embedded"]
    for name in ("unlearning_epoch_speedup", "evaluation_speedup", "statistics_speedup", "peak_memory_ratio"):
        assert figures[name] > 0, name
    assert figures["max_relative_difference"] <= TOLERANCE
    for task in ("unlearning_epoch", "evaluation", "evaluation_of_answers", "statistics"):
        timing = figures["seconds"][task]
        assert timing["ours"] > 0
        assert timing["plain"] > 0
        assert timing["tried"].keys() == {"5", "64"}
    assert figures["threads"] > 0
    assert figures["versions"].keys() == {"unsee", "python", "torch", "transformers"}
    assert figures["peak_memory_bytes"]["ours"]["peak"] >= figures["peak_memory_bytes"]["ours"]["loaded"] > 0


def test_the_llava_workload_has_the_token_geometry_of_llava():
    mllm = RECIPES["llava"].make_mllm()
    assert mllm.image_tokens == 576
    assert mllm.model.config.vision_config.image_size == 336
