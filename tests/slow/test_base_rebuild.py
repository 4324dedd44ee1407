"""`unsee base build` makes the shipped base again: bit for bit where it was made, as knowing elsewhere."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from unsee.benchmark import embedded
from unsee.benchmark.schema import Benchmark
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm import base_model, checkpoint
from unsee.mllm.finetune import ImageBank
from unsee.settings import SHIPPED_BASE, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.figures, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base") / "rebuilt"
    command = [str(Path(sys.executable).with_name("unsee")), "base", "build", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return embedded.generate(load_settings("embedded").benchmark, tmp_path_factory.mktemp("benchmark") / "embedded")


def known_realworld_people(base: Path, benchmark: Benchmark) -> float:
    """Accuracy on portraits of the real-world people that no training saw."""
    mllm = checkpoint.load_full(base)
    questions = benchmark.select(split="realworld", role="eval", modality="vqa", view="heldout", task="classification")
    asked = [Asked(question, "vqa", question.image) for question in questions]
    examiner = Examiner(mllm, ImageBank(mllm, benchmark).pixels, batch_images=64)
    return fmean(examiner.right(asked))


def test_configuration_and_tokenizer_are_the_shipped_ones(rebuilt):
    compared = {file.name for file in SHIPPED_BASE.iterdir()} - {"model.safetensors", base_model.BUILD_FACTS}
    assert compared >= {"config.json", "tokenizer.json", "processor_config.json"}
    for name in compared:
        assert (rebuilt / name).read_bytes() == (SHIPPED_BASE / name).read_bytes(), name


def test_weights_are_bit_identical_where_libraries_and_processor_are_the_same(rebuilt):
    recorded = json.loads((SHIPPED_BASE / base_model.BUILD_FACTS).read_text())
    here = json.loads((rebuilt / base_model.BUILD_FACTS).read_text())
    if recorded != here:
        pytest.skip(f"the shipped base was built on {recorded}, this is {here}: rounding differs")
    assert checkpoint.weights_digest(rebuilt) == checkpoint.weights_digest(SHIPPED_BASE)


def test_the_rebuilt_base_knows_the_realworld_people_as_well_as_the_shipped_one(rebuilt, benchmark):
    shipped_accuracy = known_realworld_people(SHIPPED_BASE, benchmark)
    rebuilt_accuracy = known_realworld_people(rebuilt, benchmark)
    assert rebuilt_accuracy >= 0.9
    assert abs(rebuilt_accuracy - shipped_accuracy) <= 0.05
