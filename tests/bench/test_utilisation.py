"""`unsee utilisation`: its FLOPs are those of the matrix products, and its figures are there and follow from them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from unsee import cli
from unsee.bench import utilisation
from unsee.bench.flops import counted
from unsee.bench.ours import collect_statistics, with_statistics
from unsee.bench.stock import Stock
from unsee.bench.workloads import FIRST_VIEW, MIDSIZE, RECIPES, make_midsize
from unsee.benchmark.schema import Question
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.trainer import Unlearning

PHASES = ["statistics", "pruning", "preparation", "unlearning", "option scores", "answers", "evaluation"]
STEPS = 3


def two_questions(question: Question) -> Question | None:
    """About job and pet, of each person's first portrait."""
    if question.view == "train" and FIRST_VIEW not in question.question_id:
        return None
    return question if question.question_id.endswith(("direct/occupation", "direct/pet")) else None


TINY = replace(
    MIDSIZE,
    make_mllm=RECIPES["embedded"].make_mllm,
    wording=two_questions,
    assignments=(*MIDSIZE.assignments, "prune.layers=2", "unlearn.layers=2"),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("utilisation") / "utilisation.json"
    found = utilisation.main(out, STEPS, TINY)
    assert json.loads(out.read_text()) == json.loads(json.dumps(found))
    return found


def test_every_figure_is_there_and_follows_from_the_counts(report: dict[str, Any]):
    peak = report["peak_flops_per_second"]
    assert list(report["phases"]) == PHASES
    for name, phase in report["phases"].items():
        assert phase["seconds"] > 0
        assert (phase["flops"] > 0) == (name != "pruning")
        assert phase["utilisation"] == pytest.approx(phase["flops"] / phase["seconds"] / peak)
    phases = report["phases"]
    assert phases["evaluation"]["flops"] == phases["option scores"]["flops"] + phases["answers"]["flops"]
    ours = (phases["preparation"]["seconds"] + phases["unlearning"]["seconds"]) / STEPS
    assert report["seconds_per_epoch"]["ours"] == pytest.approx(ours)
    assert report["epoch_speedup"] == pytest.approx(report["seconds_per_epoch"]["reference"] / ours)
    parts = [report["parameters"][part] for part in ("tower", "projector", "llm")]
    assert report["parameters"]["all"] > sum(parts) > max(parts)
    assert (report["image_tokens"], report["unlearning_steps"], report["threads"]) == (
        16,
        STEPS,
        torch.get_num_threads(),
    )


def test_the_flops_of_one_epoch_are_those_of_every_epoch(report: dict[str, Any], tmp_path: Path):
    workload = TINY.build(tmp_path / "benchmark", f"unlearn.least_steps={STEPS}")
    work = workload.work()
    work = with_statistics(work, collect_statistics(work, workload.settings.statistics))
    every_epoch = counted(Unlearning.of(work, Checkpoints(), NoTracker()).run)
    assert every_epoch == report["phases"]["unlearning"]["flops"]


def test_the_table_shows_every_phase_and_the_comparison(report: dict[str, Any]):
    lines = utilisation.table(report).splitlines()
    assert [line[:15].strip() for line in lines[1:-1]] == PHASES
    assert "as the reference implementations do it" in lines[-1]


def test_the_reference_way_has_gradients_of_all_weights_that_are_used(tmp_path: Path):
    workload = TINY.build(tmp_path / "benchmark", "unlearn.scope=full")
    _, gradients = Stock(workload, 8).gradients()
    llm = {name for name, _ in workload.mllm.model.named_parameters() if "language_model" in name}
    assert llm
    assert {name for name, gradient in gradients.items() if gradient.any()} >= llm


def test_questions_by_name_have_a_gradient_where_the_llm_is_trained(tmp_path: Path):
    workload = TINY.build(tmp_path / "benchmark", "unlearn.scope=full")
    stock = Stock(workload, 8)
    expected = stock._text_losses(stock.texts)
    embeddings = workload.mllm.language_model.get_input_embeddings().weight
    assert embeddings.grad is not None
    gradient, embeddings.grad = embeddings.grad, None
    with torch.no_grad():
        embeddings -= 1e-3 * gradient / gradient.norm()
    assert stock._text_losses(stock.texts) < expected


def test_the_midsize_model_is_an_llm_of_smollm2s_shape_and_a_small_tower():
    with torch.device("meta"):
        mllm = make_midsize()
    assert mllm.image_tokens == 196
    assert sum(p.numel() for p in mllm.language_model.parameters()) == 134_515_008
    assert sum(p.numel() for p in mllm.model.parameters()) == 156_735_168


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As two products, by which torch's kernel of one piece is counted."""
    return (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value


@pytest.mark.parametrize("trains", [False, True])
def test_attention_counts_as_the_products_it_is_made_of(trains: bool):
    query, key, value = (torch.randn(2, 3, length, 8, requires_grad=trains) for length in (5, 7, 7))

    def run(attention: Any) -> int:
        def work() -> None:
            found = attention(query, key, value)
            if trains:
                found.sum().backward()

        return counted(work)

    assert run(F.scaled_dot_product_attention) == run(_attention) == (3 if trains else 1) * 2 * 3 * 5 * 7 * 8 * 4


def test_causal_attention_counts_the_pairs_that_see_each_other():
    tokens = torch.randn(1, 1, 5, 8)
    assert counted(lambda: F.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)) == 4 * 15 * 8


def test_a_directory_to_write_to_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["unsee", "utilisation", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "is a directory; give a file" in capsys.readouterr().err
