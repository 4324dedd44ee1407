"""The plan of a run: of the published models, and against what steps really take."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig
from typer.testing import CliRunner

from unsee import progress
from unsee.benchmark import schema
from unsee.benchmark.schema import ForgetRequest
from unsee.cli import app
from unsee.compute import Compute
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.quantised import quantised
from unsee.plan import GIB, plan, table
from unsee.plan.data import few, imagined
from unsee.plan.models import PUBLISHED, ModelPlan, parts_of
from unsee.plan.tracking import Counter
from unsee.settings import SHIPPED_BASE, load_settings

SMALL = [
    "unlearn.batch_forget_images=2", "unlearn.batch_retain_images=2", "unlearn.micro_batch_images=2",
    "unlearn.blends=2", "relearn.percents=[]", "statistics.batch_images=2", "evaluation.batch_images=2",
    "vanilla.batch_images=2", "compute.threads=1",
]  # fmt: skip


def test_the_published_models_have_the_published_numbers_of_parameters():
    found = {
        name: sum(parts_of(ModelPlan.of(name, lambda: SHIPPED_BASE).make(Compute())).values()) for name in PUBLISHED
    }
    assert found == {"llava-hf/llava-1.5-7b-hf": 7_063_427_072, "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616}


def images_of(benchmark, **fields):
    return len({q.image for q in benchmark.select(**fields)} - {None})


def test_an_imagined_benchmark_has_the_published_sizes():
    clear = imagined(load_settings("llava-1.5-7b-clear").benchmark)
    assert images_of(clear) == pytest.approx(3768 + 151 + 367, rel=0.02)
    assert images_of(clear, role="eval", split="retain") == pytest.approx(395, rel=0.02)
    assert images_of(clear, role="eval", split="realworld") == 151 + 367
    benchmark = imagined(load_settings("llava-1.5-7b-mllmu", assignments=["benchmark.forget_percent=10"]).benchmark)
    assert (images_of(benchmark, role="train"), images_of(benchmark)) == (500, 2 * 500 + 153)
    counts = benchmark.counts
    assert (counts["forget people"], counts["retain people"], counts["realworld people"]) == (50, 450, 153)
    request = ForgetRequest.resolve(benchmark, ())
    sample, some = few(benchmark, request, (3, 2))
    assert (len(some.forget), len(some.retain)) == (3, 2)
    assert set(sample.entities) == {*some.forget, *some.retain}


@pytest.mark.long
def test_every_step_of_the_embedded_preset_is_planned():
    found = plan(load_settings("embedded", assignments=SMALL))
    assert set(found.steps) == {"build-vanilla", "collect-statistics", "unlearn", "evaluate"}
    unlearn, vanilla = found.steps["unlearn"], found.steps["build-vanilla"]
    assert vanilla.trainable_parameters == sum(found.parameters.values())
    assert vanilla.optimiser_bytes == pytest.approx(8 * vanilla.trainable_parameters, rel=0.001)
    assert vanilla.gradient_bytes == pytest.approx(4 * vanilla.trainable_parameters, rel=0.001)
    assert unlearn.disk_bytes == 4 * unlearn.trainable_parameters
    assert unlearn.checkpoint_bytes == 3 * unlearn.disk_bytes
    assert unlearn.images_per_epoch == 20 * 8
    assert unlearn.image_tokens_per_epoch == 2 * 20 * 8 * found.image_tokens, "as many portraits are retained a step"
    evaluation = found.steps.pop("evaluate")
    assert (evaluation.trainable_parameters, evaluation.checkpoint_bytes) == (0, 0)
    assert found.steps["collect-statistics"].trainable_parameters == 0
    for step in found.steps.values():
        kept = step.activation_bytes["kept"]
        assert step.activation_bytes["recomputed"] <= kept == step.activation_bytes["as_computed"]
    assert vanilla.activation_bytes["recomputed"] < vanilla.activation_bytes["kept"]
    assert all(step.flops_per_epoch > 0 for step in found.steps.values())
    assert "unlearn" in table(found)


def test_of_low_rank_additions_only_those_are_trained_and_saved_meanwhile():
    given = [f"vanilla.base={SHIPPED_BASE}", "prune.layers=2", "unlearn.layers=2", "compute.threads=1"]
    found = plan(load_settings("llava-1.5-7b-mllmu", assignments=given), only=["build-vanilla"], both_ways=False)
    vanilla, config = found.steps["build-vanilla"], AutoConfig.from_pretrained(SHIPPED_BASE).text_config
    width, inner, key = config.hidden_size, config.intermediate_size, config.num_key_value_heads * config.head_dim
    sides = 2 * (width + width) + 2 * (width + key) + 3 * (width + inner)
    assert vanilla.trainable_parameters == 16 * sides * config.num_hidden_layers
    assert vanilla.checkpoint_bytes == 12 * vanilla.trainable_parameters
    assert vanilla.image_tokens_per_epoch == 500 * 17 * found.image_tokens, "a question at a time, each with the image"
    assert vanilla.activation_bytes.keys() == {"as_computed"}


def test_the_command_prints_bytes_as_json_and_nothing_else(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    given = [argument for assignment in SMALL for argument in ("--set", assignment)]
    run = CliRunner().invoke(app, ["plan", *given, "--step", "collect-statistics", "--json"])
    assert run.exit_code == 0, run.output
    assert progress.MARK in run.stderr
    steps = json.loads(run.stdout)["steps"]
    assert steps.keys() == {"collect-statistics"}
    found = steps["collect-statistics"]
    assert found["peak_device_bytes"] > found["weight_bytes"]


def test_a_quantised_llm_takes_as_many_bytes_in_the_plan_as_in_memory():
    def planned(bits):
        bits = f"evaluation.compute.llm_bits={json.dumps(bits)}"
        settings = load_settings("embedded", assignments=[*SMALL, "evaluation.generate=false", bits])
        return plan(settings, only=["evaluate"]).steps["evaluate"]

    plain = planned(None)
    for bits in (8, 4):
        found = planned(bits)
        small = quantised(checkpoint.load(SHIPPED_BASE, compute=Compute(llm_bits=bits)).model).values()
        saved = sum(4 * layer.shape.numel() - layer.weight.nbytes - layer.scales.nbytes for layer in small)
        assert saved > 1e6
        assert plain.weight_bytes - found.weight_bytes == saved
        assert found.flops_per_epoch == plain.flops_per_epoch


@pytest.mark.long
@pytest.mark.parametrize("benchmark", ["mllmu", "clear"])
@pytest.mark.parametrize("model", ["llava-1.5-7b", "qwen2-vl-7b"])
def test_unlearning_a_7b_model_fits_a_card_of_24_gb(model, benchmark):
    found = plan(load_settings(f"{model}-{benchmark}"), only=["unlearn"], card=True, both_ways=False)
    assert (found.compute["device"], found.compute["precision"]) == ("cuda", "bfloat16")
    assert 13 * GIB < found.steps["unlearn"].peak_device_bytes < 22 * GIB


def test_on_a_card_a_mask_is_chosen_in_main_memory(monkeypatch):
    """By Fisher information of both sets and their ratios, which take more than what is checkpointed later."""
    monkeypatch.setattr("unsee.plan.resident", lambda: 0)

    def unlearning(*more):
        settings = load_settings("embedded", assignments=[*SMALL, "compute.device=auto", *more])
        return plan(settings, only=["unlearn"], card=True, both_ways=False).steps["unlearn"]

    masked, unmasked = unlearning(), unlearning("unlearn.mask=null")
    pixels = unmasked.host_bytes - unmasked.cache_bytes - unmasked.checkpoint_bytes
    chosen_by = masked.host_bytes - masked.cache_bytes - pixels
    assert chosen_by > unmasked.checkpoint_bytes == 3 * 4 * masked.trainable_parameters
    assert masked.peak_device_bytes == unmasked.peak_device_bytes


def test_people_without_a_photograph_are_refused_as_by_the_step(small_benchmark, tmp_path):
    shutil.copytree(small_benchmark.directory, tmp_path / "people")
    forget, *_ = ForgetRequest.resolve(small_benchmark, ()).forget
    unseen = [q for q in small_benchmark.questions if q.entity_id != forget or q.modality != "vqa"]
    schema.write_questions(tmp_path / "people", unseen)
    with pytest.raises(UserError, match="has no training question about a photograph of the people to forget"):
        plan(load_settings("embedded", assignments=SMALL), tmp_path / "people", forget=[forget])


def test_a_step_that_there_is_not_is_told():
    with pytest.raises(UserError, match="--step unlern is no step of this run; give one of build-vanilla, "):
        plan(load_settings("embedded", assignments=SMALL), only=["unlern"])


def test_fused_attention_is_counted():
    tensors = [torch.randn(2, 3, 5, 4) for _ in range(3)]
    with Counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(*tensors)
    assert counter.get_total_flops() == 4 * 2 * 3 * 5 * 5 * 4
