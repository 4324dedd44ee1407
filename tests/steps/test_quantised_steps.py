"""Steps with the LLM in 8 bits, beside the same without."""

import json

import pytest
from safetensors.torch import load_file

from unsee.mllm import checkpoint
from unsee.sections import UnlearnSettings
from unsee.settings import SHIPPED_BASE
from unsee.steps import collect_statistics, evaluate, prune, unlearn
from unsee.storage import artifact
from unsee.tracking import NoTracker
from unsee.unlearning.method import settings_of

EVERYBODY: list[str] = []


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_settings, small_benchmark):
    """The shipped base as the vanilla model, its statistics, and what is pruned."""
    root = tmp_path_factory.mktemp("inputs")
    vanilla, statistics, pruning = (root / name for name in ("vanilla", "statistics", "pruning"))
    with artifact.create(vanilla, "model", {}) as out:
        checkpoint.save_full(checkpoint.load(SHIPPED_BASE), out)
    collect_statistics.run(
        tiny_settings.statistics, small_benchmark.directory, EVERYBODY, vanilla, statistics, NoTracker()
    )
    prune.run(tiny_settings.prune, statistics, pruning, NoTracker())
    return vanilla, statistics, pruning


@pytest.fixture
def unlearned(inputs, small_benchmark, tmp_path):
    """unlearned(settings): the step's output, and its first losses."""

    def run(settings):
        out = tmp_path / str(settings.compute.llm_bits)
        unlearn.run(settings, small_benchmark.directory, EVERYBODY, *inputs, None, out, NoTracker())
        return out, json.loads((out / "history.json").read_text())[0]

    return run


def in_8_bits(settings):
    return settings.model_copy(update={"compute": settings.compute.model_copy(update={"llm_bits": 8})})


def distance(found, expected):
    """Between all tensors of two files, as a share of the norm of the second."""
    found, expected = load_file(found), load_file(expected)
    assert found.keys() == expected.keys()
    off = sum((found[name].float() - tensor.float()).square().sum() for name, tensor in expected.items())
    return (off / sum(tensor.float().square().sum() for tensor in expected.values())) ** 0.5


def test_unlearning_leaves_nearly_the_same_delta_on_the_plain_base(tiny_settings, inputs, unlearned):
    plain, losses = unlearned(tiny_settings.unlearn)
    out, near = unlearned(in_8_bits(tiny_settings.unlearn))
    assert near == pytest.approx(losses, rel=0.01)
    assert distance(out / "delta.safetensors", plain / "delta.safetensors") < 0.01
    vanilla, found = (checkpoint.load(path).model.state_dict() for path in (inputs[0], out))
    tuned = checkpoint.load(inputs[0]).visual_parameters(2)
    assert {name for name, tensor in found.items() if not tensor.equal(vanilla[name])} == tuned.keys()


def test_what_the_vanilla_model_says_is_what_it_says_in_8_bits(tiny_settings, unlearned):
    """Before the first step the model is its own reference, from which it diverges by rounding alone."""
    common = tiny_settings.unlearn.model_dump(include=set(UnlearnSettings.model_fields))
    settings = settings_of({**common, "method": "kl_min", "scope": "vision", "versions": 1})
    _, losses = unlearned(in_8_bits(settings))
    assert abs(losses["retain_loss"]) < 1e-6


def test_statistics_are_nearly_the_same(tiny_settings, inputs, small_benchmark, tmp_path):
    vanilla, statistics, _ = inputs
    settings = in_8_bits(tiny_settings.statistics)
    collect_statistics.run(settings, small_benchmark.directory, EVERYBODY, vanilla, tmp_path / "out", NoTracker())
    assert distance(tmp_path / "out" / "importance.safetensors", statistics / "importance.safetensors") == 0
    assert distance(tmp_path / "out" / "fisher.safetensors", statistics / "fisher.safetensors") < 0.03


def test_an_evaluation_is_nearly_the_same(tiny_settings, inputs, small_benchmark, tmp_path):
    plain = tiny_settings.evaluation.model_copy(update={"generate": False})
    model = small_benchmark.directory, EVERYBODY, "vanilla", inputs[0], None
    expected, found = (
        evaluate.run(settings, *model, tmp_path / str(settings.compute.llm_bits), NoTracker())
        for settings in (plain, in_8_bits(plain))
    )
    assert found == pytest.approx(expected, abs=0.1)
