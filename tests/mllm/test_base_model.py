"""Building the base model replaces an earlier build, and nothing else."""

import re
from statistics import fmean

import pytest
import torch

from unsee.benchmark import embedded
from unsee.errors import UserError
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm import base_model, checkpoint, embedded_qwen2_vl
from unsee.mllm.base_model import BUILD_FACTS, build
from unsee.mllm.embedded import INSTRUCTION
from unsee.mllm.rows import ImageBank, instructed
from unsee.settings import SHIPPED_BASE, load_settings


@pytest.fixture
def reduced(monkeypatch):
    """One step of each training, on few portraits."""
    for name in ("TOWER_STEPS", "STEPS", "HEEDING_STEPS"):
        monkeypatch.setattr(base_model, name, 1)
    monkeypatch.setattr(base_model, "FACES", 16)
    monkeypatch.setattr(base_model, "BATCH", 8)
    monkeypatch.setattr(embedded, "REALWORLD_VIEWS", 2)


@pytest.fixture
def no_training(monkeypatch):
    """Any training fails at once."""
    monkeypatch.setattr(base_model, "FACES", -1)


def test_a_directory_of_something_else_is_refused_before_training_and_left_alone(tmp_path, no_training):
    (tmp_path / "letter.txt").write_text("dear diary")
    with pytest.raises(UserError, match=re.escape(f"--out {tmp_path} is not empty and holds no {BUILD_FACTS}")):
        build(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear diary"


def test_a_file_in_the_way_is_refused_before_training_and_left_alone(tmp_path, no_training):
    (tmp_path / "base").write_text("mine")
    with pytest.raises(UserError, match="is a file; give a directory"):
        build(tmp_path / "base")
    assert (tmp_path / "base").read_text() == "mine"


def test_an_earlier_build_is_replaced_whole(tmp_path, reduced):
    out = tmp_path / "deep" / "base"
    out.mkdir(parents=True)
    (out / BUILD_FACTS).write_text("{}")
    (out / "old.safetensors").write_text("old")
    build(out)
    assert not (out / "old.safetensors").exists()
    assert checkpoint.load_full(out).model.config.model_type == "llava"
    assert [path.name for path in out.parent.iterdir()] == ["base"]


def test_a_base_of_another_family_is_built_the_same_way(tmp_path, reduced):
    build(tmp_path / "base", "qwen2_vl")
    built = checkpoint.load_full(tmp_path / "base").model
    assert built.config.model_type == "qwen2_vl"
    fresh = embedded_qwen2_vl.make(base_model.SEED).model.state_dict()
    matrices = {name: tensor for name, tensor in built.state_dict().items() if tensor.dim() > 1}
    assert not any(torch.equal(matrix, fresh[name].half().float()) for name, matrix in matrices.items())


def test_the_shipped_base_guesses_when_it_is_told_that_it_does_not_know(small_benchmark):
    """What in-context unlearning asks of a teacher; the preset's VGID uses this instruction."""
    mllm = checkpoint.load_full(SHIPPED_BASE)
    examiner = Examiner(mllm, ImageBank(mllm, small_benchmark).pixels, 64)
    asked = small_benchmark.select(split="realworld", role="eval", modality="vqa", task="classification")

    def accuracy(instruction):
        return fmean(
            examiner.right([Asked(instructed(question, instruction), "vqa", question.image) for question in asked])
        )

    assert load_settings("embedded", method="vgid").unlearn.instruction == INSTRUCTION
    assert accuracy("") > 0.95
    assert accuracy(INSTRUCTION) < 0.8
