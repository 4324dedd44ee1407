"""`unsee run --preset auto`: any base of a known family, on a benchmark that is given."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hub import Hub
from reduced import command, environment
from tiny_families import TINY
from unlearning_work import few_questions, written

from unsee.benchmark.schema import Benchmark
from unsee.mllm import checkpoint
from unsee.settings import SHIPPED_BASE
from unsee.storage import artifact

pytestmark = pytest.mark.timeout(1800)
FEW = ("unlearn.batch_forget_images=2", "unlearn.batch_retain_images=2")


@pytest.fixture(scope="module")
def little(small_benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small benchmark with one of its real-world people, two training questions or fewer about a portrait, and
    every fourth of the others."""
    people = [*small_benchmark.entities][:6]
    asked = [q for q in few_questions(small_benchmark, 2).questions if q.entity_id in people]
    chosen = [q for number, q in enumerate(asked) if q.role == "train" or number % 4 == 0]
    return written(small_benchmark, chosen, tmp_path_factory.mktemp("little") / "benchmark").directory


def auto(out: Path, model: str | Path, benchmark: Path, *settings: str, lora: bool = False, **variables: str) -> str:
    """What a run of the model says."""
    given = {"preset": "auto", "model": str(model), "benchmark": str(benchmark)}
    whole = command(out, *FEW, *settings, lora=lora, **given)
    run = subprocess.run(whole, env=environment(**variables), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def facts(out: Path, step: str, kind: str) -> dict[str, Any]:
    """Of what a step of the run made."""
    (made,) = (out.parent / ".unsee/artifacts").glob(f"*/*/{step}/{kind}")
    return artifact.read(made, kind).facts


def assert_all_was_measured(out: Path) -> None:
    """By the run's summary."""
    summary = json.loads((out / "summary.json").read_text())
    assert summary["models"].keys() == {"vanilla", "retrained", "unlearned"}
    assert None not in [found["forget/vqa/accuracy"] for found in summary["models"].values()]
    assert summary["relearning"]["person"]["50"]["gap"] is not None


@pytest.mark.long
def test_a_base_by_its_id_of_another_family_is_trained_and_attacked_by_low_rank_additions(
    little: Path, tmp_path: Path
) -> None:
    repository, out = tmp_path / "repository", tmp_path / "run"
    checkpoint.save_full(TINY["qwen2_vl"](128, vocab_size=800_000, tie_word_embeddings=True), repository)
    hub = Hub({"models/makers/qwen2-vl": repository})
    told = auto(out, "makers/qwen2-vl", little, "vanilla.epochs=1", lora=True, **hub.environment(tmp_path / "cache"))
    hub.close()
    assert "makers/qwen2-vl: settings of qwen2-vl-7b-mllmu, at most" in told
    assert_all_was_measured(out)
    vanilla, attack = facts(out, "build-vanilla", "model"), facts(out, "relearn-attack", "relearning")
    assert vanilla["base_sha256"] == checkpoint.weights_digest(repository)
    assert (vanilla["settings"]["rank"], attack["settings"]["rank"]) == (16, 16)
    assert (vanilla["compute"]["precision"], vanilla["compute"]["checkpointing"]) == ("float32", False)


@pytest.mark.slow
def test_a_tiny_base_is_trained_whole_as_the_embedded_one(little: Path, tmp_path: Path) -> None:
    told = auto(tmp_path / "run", SHIPPED_BASE, little, "unlearn.blends=2")
    assert f"{SHIPPED_BASE}: settings of embedded, at most" in told
    assert_all_was_measured(tmp_path / "run")
    assert facts(tmp_path / "run", "build-vanilla", "model")["settings"]["steps"] == 2
