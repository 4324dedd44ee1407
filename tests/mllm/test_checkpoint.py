"""Models on disk: bit for bit what was saved, a delta only on its own base, and one sentence for what is damaged."""

import copy
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from unsee import cli
from unsee.errors import UserError
from unsee.mllm import checkpoint, inspect
from unsee.sections import ComputeSettings
from unsee.steps.models import open_model
from unsee.storage import artifact

CHANGED = "model.vision_tower.encoder.layers.3.mlp.fc1.weight"
OF_LLAVA = pytest.mark.parametrize("family", ["llava"])
"""For what does not depend on the family."""


def same_bits(model, other):
    """Whether two state dicts hold the same bits, signs of zeros and NaNs included."""
    return model.keys() == other.keys() and all(
        torch.equal(tensor.contiguous().view(torch.int32), other[name].contiguous().view(torch.int32))
        for name, tensor in model.items()
    )


def last_bias(mllm):
    """The projector's last parameter."""
    return list(mllm.projector.parameters())[-1]


def save_delta(mllm, base, directory):
    return checkpoint.save_delta(mllm, base, directory, method="vkd", seed=3, config={"alpha": 1.25})


@pytest.fixture
def base(mllm, tmp_path):
    """A vanilla model artifact."""
    directory = tmp_path / "vanilla"
    with artifact.create(directory, "model", {}):
        checkpoint.save_full(mllm, directory)
    return directory


@pytest.fixture
def delta(mllm, base, tmp_path):
    """A delta artifact that changes two tensors; `mllm` is what it stands for."""
    directory = tmp_path / "unlearned"
    with torch.no_grad():
        mllm.tower_mlps()[3].incoming[0].weight.mul_(1.5)
        last_bias(mllm)[3] = -7.0
    with artifact.create(directory, "model", {}):
        assert save_delta(mllm, base, directory) == 2
    return directory


def test_a_full_model_is_read_back_bit_for_bit(mllm, base):
    loaded = checkpoint.load(base)
    assert same_bits(loaded.model.state_dict(), mllm.model.state_dict())
    assert not loaded.model.training
    assert loaded.tokenizer.get_vocab() == mllm.tokenizer.get_vocab()
    assert loaded.tokenizer.chat_template == mllm.tokenizer.chat_template


def test_the_image_processor_is_read_back(mllm, base, small_benchmark):
    image = small_benchmark.image(next(q for q in small_benchmark.questions if q.image))
    assert torch.equal(checkpoint.load(base).pixels([image]), mllm.pixels([image]))


def test_a_model_saved_in_half_precision_is_read_in_float32(mllm, tmp_path):
    checkpoint.save_full(mllm, tmp_path / "half", dtype=torch.float16)
    loaded = checkpoint.load(tmp_path / "half").model.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert same_bits(loaded, {name: t.half().float() for name, t in mllm.model.state_dict().items()})


CHANGES = {
    "llava": {CHANGED, "model.multi_modal_projector.linear_2.bias"},
    "qwen2_vl": {"model.visual.blocks.3.mlp.fc1.weight", "model.visual.merger.mlp.2.bias"},
}


def test_a_delta_holds_what_changed_and_gives_the_model_back_bit_for_bit(mllm, family, base, delta):
    assert load_file(delta / checkpoint.DELTA).keys() == CHANGES[family]
    assert same_bits(checkpoint.load(delta, base).model.state_dict(), mllm.model.state_dict())
    assert same_bits(open_model(delta, base, ComputeSettings(threads=1)).model.state_dict(), mllm.model.state_dict())


@OF_LLAVA
def test_a_delta_says_what_it_is_and_on_what(base, delta):
    facts = json.loads((delta / checkpoint.DELTA_FACTS).read_text())
    assert facts["base"] == {"uri": str(base), "sha256": checkpoint.weights_digest(base)}
    assert (facts["method"], facts["seed"], facts["config"], facts["dtype"]) == ("vkd", 3, {"alpha": 1.25}, "float32")
    assert facts["parent"] == facts["base"]["sha256"]


@OF_LLAVA
def test_zeros_of_another_sign_are_a_change(mllm, tmp_path):
    bias = last_bias(mllm).data.fill_(-0.0)
    checkpoint.save_full(mllm, tmp_path / "base")
    bias.fill_(0.0)
    assert save_delta(mllm, tmp_path / "base", tmp_path / "delta") == 1
    loaded = checkpoint.load(tmp_path / "delta", tmp_path / "base")
    assert same_bits(loaded.model.state_dict(), mllm.model.state_dict())


def test_a_delta_gives_back_tied_embeddings(fresh, tmp_path):
    qwen = fresh["qwen2_vl"]
    config = copy.deepcopy(qwen.model.config)
    config.tie_word_embeddings = True
    tied = type(qwen)(qwen.model_class(config).eval(), qwen.tokenizer, qwen.image_processor)
    checkpoint.save_full(tied, tmp_path / "base")
    with torch.no_grad():
        tied.head.weight[0, 0] += 1
    assert save_delta(tied, tmp_path / "base", tmp_path / "delta") == 2
    loaded = checkpoint.load(tmp_path / "delta", tmp_path / "base")
    assert same_bits(loaded.model.state_dict(), tied.model.state_dict())


@OF_LLAVA
def test_an_unchanged_model_is_an_empty_delta(mllm, base, tmp_path):
    assert save_delta(mllm, base, tmp_path / "none") == 0
    assert same_bits(checkpoint.load(tmp_path / "none", base).model.state_dict(), mllm.model.state_dict())


@OF_LLAVA
def test_a_base_that_moved_is_found_where_one_says(mllm, base, delta, tmp_path):
    moved = base.rename(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=r"is a delta on .*vanilla, which is not there; say where its base is with --base"
    ):
        checkpoint.load(delta)
    assert same_bits(checkpoint.load(delta, moved).model.state_dict(), mllm.model.state_dict())


@OF_LLAVA
def test_a_delta_is_never_applied_to_another_base(mllm, delta, tmp_path):
    with torch.no_grad():
        mllm.head.weight[0, 0] += 1
    checkpoint.save_full(mllm, tmp_path / "other")
    with pytest.raises(
        UserError, match=r"is a delta on another model than .*other \(sha256 differs\); give its own base"
    ):
        checkpoint.load(delta, tmp_path / "other")


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: flip(file, -5),
        lambda file: flip(file, 2),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
    ],
    ids=["flipped weight", "flipped header", "truncated", "empty", "missing"],
)
@OF_LLAVA
def test_any_damage_to_a_delta_artifact_is_told_in_one_sentence(base, delta, damage):
    damage(delta / checkpoint.DELTA)
    with pytest.raises(
        UserError, match=r"delta\.safetensors (was changed or damaged|is missing).*run the step again"
    ) as error:
        open_model(delta, base, ComputeSettings(threads=1))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: flip(file, 2),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
    ],
    ids=["flipped header", "truncated", "empty", "missing"],
)
@OF_LLAVA
def test_a_delta_outside_its_artifact_is_checked_as_far_as_its_format_allows(base, delta, damage):
    damage(delta / checkpoint.DELTA)
    with pytest.raises(UserError, match=r"delta\.safetensors is damaged .*run the unlearn step again"):
        checkpoint.load(delta, base)


@OF_LLAVA
def test_a_delta_that_lacks_a_listed_tensor_is_refused(base, delta):
    tensors = load_file(delta / checkpoint.DELTA)
    save_file({CHANGED: tensors[CHANGED].clone()}, delta / checkpoint.DELTA)
    with pytest.raises(UserError, match=r"does not hold the tensors delta\.json lists; run the unlearn step again"):
        checkpoint.load(delta, base)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "config.json").unlink(), r"holds no config\.json; give a Hugging Face model folder"),
        (lambda d: (d / "config.json").write_text("{"), r"config\.json cannot be read .*not a valid JSON"),
        (lambda d: (d / "config.json").write_text('{"model_type": "bert"}'), r"model_type 'bert' is not supported"),
        (lambda d: (d / "model.safetensors").write_bytes(b"12345678910"), r"the weights cannot be read"),
        (
            lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-10]),
            r"the weights cannot be read",
        ),
        (lambda d: (d / "model.safetensors").unlink(), r"the weights cannot be read"),
        (lambda d: (d / "tokenizer.json").write_text("{"), r"tokenizer or image processor cannot be read"),
    ],
    ids=["no config", "broken config", "other family", "no tensors", "cut", "no weights", "tokenizer"],
)
@OF_LLAVA
def test_a_folder_that_is_no_usable_model_is_told_in_a_sentence(base, damage, words):
    damage(base)
    with pytest.raises(UserError, match=words) as error:
        checkpoint.load_full(base)
    assert str(base) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@OF_LLAVA
def test_pickled_weights_are_never_read(base):
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    torch.save(weights, base / "pytorch_model.bin")
    with pytest.raises(UserError, match="the weights cannot be read"):
        checkpoint.load_full(base)
    with pytest.raises(UserError, match=r"holds no \*\.safetensors"):
        checkpoint.weights_digest(base)


def test_models_are_described(family, base, delta):
    assert f"full {family} model" in inspect.describe(base)
    described = inspect.describe(delta)
    assert "delta by vkd, seed 3, 2 changed tensors (float32)" in described
    assert all(name in described for name in CHANGES[family])
    assert str(base) in described


@OF_LLAVA
def test_two_models_are_compared_by_tensor(base, delta):
    told = inspect.diff(delta, base, base)
    assert "2 of 105 tensors differ" in told
    assert f"{CHANGED}: 100.0% of its entries, relative distance 0.500" in told


def test_a_merged_model_is_a_full_one_with_the_same_bits(mllm, base, delta, tmp_path):
    inspect.merge(delta, base, tmp_path / "merged")
    shutil.rmtree(base)
    assert artifact.read(tmp_path / "merged", "model").facts["merged_from"] == str(delta)
    assert same_bits(checkpoint.load(tmp_path / "merged").model.state_dict(), mllm.model.state_dict())


LOOKS = {
    "describe": lambda delta, base, out: [str(delta)],
    "merge": lambda delta, base, out: [str(delta), "--base", str(base), "--out", str(out)],
    "diff": lambda delta, base, out: [str(base), str(delta), "--base", str(base)],
}


def told_by(command, delta, base, out, capsys, monkeypatch):
    """What the command line says when it refuses."""
    monkeypatch.setattr(sys, "argv", ["unsee", "model", command, *LOOKS[command](delta, base, out)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert not out.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("command", LOOKS)
@OF_LLAVA
def test_commands_refuse_a_delta_with_a_flipped_bit(command, base, delta, tmp_path, capsys, monkeypatch):
    flip(delta / checkpoint.DELTA, -5)
    told = told_by(command, delta, base, tmp_path / "out", capsys, monkeypatch)
    assert "delta.safetensors was changed or damaged" in told


@pytest.mark.parametrize("command", LOOKS)
@OF_LLAVA
def test_commands_refuse_a_delta_without_its_manifest(command, base, delta, tmp_path, capsys, monkeypatch):
    (delta / artifact.MANIFEST).unlink()
    told = told_by(command, delta, base, tmp_path / "out", capsys, monkeypatch)
    assert f"{delta} is no complete model: manifest.json is missing" in told


@OF_LLAVA
def test_a_full_model_is_described_without_a_manifest_but_not_against_it(base):
    flip(base / "tokenizer.json", 40)
    with pytest.raises(UserError, match=r"tokenizer\.json was changed or damaged"):
        inspect.describe(base)
    flip(base / "tokenizer.json", 40)
    (base / artifact.MANIFEST).unlink()
    assert "full llava model" in inspect.describe(base)
