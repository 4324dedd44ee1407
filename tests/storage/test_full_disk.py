"""On a disk that fills up, nothing half-written is left and the sentence says so: on a real file system of 256 kB."""

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from unsee.benchmark import embedded
from unsee.explain import explain
from unsee.mllm import checkpoint
from unsee.storage import artifact
from unsee.storage.store import FileStore
from unsee.training import Checkpoints


def assert_told(error: BaseException) -> None:
    explanation = explain(error)
    assert explanation.code == 2
    assert "the disk is full; free some space and run again" in explanation.sentence
    assert len(explanation.sentence.splitlines()) == 1


def test_an_artifact_that_does_not_fit_leaves_nothing(small_disk):
    out = small_disk / "out"
    with pytest.raises(OSError) as error, artifact.create(out, "model", {}):
        artifact.write_bytes(out / "small.bin", bytes(10))
        artifact.write_bytes(out / "large.bin", bytes(1_000_000))
    assert_told(error.value)
    assert not out.exists()


def test_a_model_that_does_not_fit_leaves_nothing(small_disk, llava):
    out = small_disk / "out"
    with pytest.raises(SafetensorError) as error, artifact.create(out, "model", {}):
        checkpoint.save_full(llava, out)
    assert_told(error.value)
    assert not out.exists()


def test_tensors_that_do_not_fit_are_told(small_disk):
    with pytest.raises(SafetensorError) as error:
        save_file({"a": torch.zeros(200_000)}, small_disk / "a.safetensors")
    assert_told(error.value)


def test_a_benchmark_that_does_not_fit_leaves_nothing(small_disk, benchmark_settings):
    out = small_disk / "out"
    with pytest.raises(OSError) as error:
        embedded.generate(benchmark_settings, out)
    assert_told(error.value)
    assert not out.exists()


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(small_disk):
    checkpoints = Checkpoints(FileStore(small_disk), "saved.safetensors")
    checkpoints.save({"a": torch.arange(10)}, {"curve": [1]})
    with pytest.raises(SafetensorError) as error:
        checkpoints.save({"a": torch.zeros(200_000)}, {"curve": [1, 2]})
    assert_told(error.value)
    tensors, state = checkpoints.load()
    assert torch.equal(tensors["a"], torch.arange(10))
    assert state == {"curve": [1]}
    assert [p.name for p in small_disk.iterdir()] == ["saved.safetensors"]
