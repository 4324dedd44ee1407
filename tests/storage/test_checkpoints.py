"""A training whose checkpoints lie in an object store, killed and run again where nothing of it is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unsee.errors import UserError
from unsee.storage.s3 import S3Store
from unsee.storage.store import Failed, open_store
from unsee.storage.transfer import CHECKPOINTS
from unsee.training import Checkpoints

STEPS = 60
TRAINING = f"""
import json, sys, time
import torch
from unsee.training import Checkpoints, Optimisation, Training
torch.manual_seed(0)
weights = torch.nn.Parameter(torch.randn(900, 900))
seconds, made = float(sys.argv[1]), []
def gradients(step):
    time.sleep(seconds)
    made.append(step)
    generator = torch.Generator().manual_seed(step)
    loss = (weights @ torch.randn(900, 8, generator=generator) - torch.randn(900, 8, generator=generator)).square()
    loss.mean().backward()
    return {{"loss": float(loss.detach().mean())}}
rule = Optimisation(steps={STEPS}, learning_rate=0.01)
curve = Training({{"w": weights}}, gradients, rule, "fitting", checkpoints=Checkpoints.of("fitting")).run()
torch.save(weights.detach(), "weights.pt")
print(json.dumps({{"curve": curve, "made": made}}))
"""


def start(directory: Path, checkpoints: str, seconds: float) -> subprocess.Popen[str]:
    directory.mkdir()
    variables = {**os.environ, CHECKPOINTS: checkpoints, "UNSEE_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAINING, str(seconds)]
    return subprocess.Popen(command, cwd=directory, env=variables, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict:
    shown, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(shown.splitlines()[-1])


def test_a_training_killed_after_a_checkpoint_goes_on_from_s3_in_an_empty_directory_to_the_same_bits(s3, tmp_path):
    """Weights and two moments of AdamW are 9.7 MB: two parts."""
    undisturbed = finish(start(tmp_path / "undisturbed", "", 0))
    killed = start(tmp_path / "killed", s3, 0.2)
    while not open_store(s3).sizes():
        assert killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    resumed = finish(start(tmp_path / "resumed", s3, 0))
    assert 0 < len(resumed["made"]) < STEPS
    assert resumed["made"] == list(range(STEPS))[-len(resumed["made"]) :]
    assert resumed["curve"] == undisturbed["curve"]
    weights = [torch.load(tmp_path / name / "weights.pt") for name in ("undisturbed", "resumed")]
    assert torch.equal(*weights)


@pytest.fixture
def saved(s3: str) -> Checkpoints:
    """A checkpoint of 12 MB, which is sent and fetched in parts."""
    checkpoints = Checkpoints(open_store(s3), "saved.safetensors")
    checkpoints.save({"a": torch.arange(3_000_000)}, {"curve": [1]})
    return checkpoints


def test_a_checkpoint_is_replaced_read_and_deleted_in_every_store(root):
    checkpoints = Checkpoints(open_store(root), "deep/saved.safetensors")
    assert checkpoints.load() is None
    for number in (1, 2):
        checkpoints.save({"a": torch.full((3,), number)}, {"curve": [number]})
    tensors, state = checkpoints.load()
    assert (tensors["a"].tolist(), state) == ([2, 2, 2], {"curve": [2]})
    checkpoints.clear()
    assert checkpoints.load() is None
    assert open_store(root).sizes() == {}


def test_what_is_still_being_written_is_no_object(root):
    """Nor is what the writer puts beside it, as safetensors does."""
    store = open_store(root)
    with store.writing("saved") as file:
        file.write_bytes(b"1")
        file.with_name(".unfinished").write_bytes(b"2")
        assert store.sizes() == {}
    assert store.sizes() == {"saved": 1}


def test_a_checkpoint_that_cannot_be_sent_leaves_the_one_before(saved, inject):
    inject({"method": "PUT", "path": "partNumber=2", "times": 99, "do": 403, "code": "AccessDenied"})
    broken = Checkpoints(open_store(saved.store.uri), saved.name)
    with pytest.raises(UserError, match="this AWS_ACCESS_KEY_ID may not do this in bucket unsee"):
        broken.save({"a": torch.zeros(3_000_000)}, {"curve": [2]})
    inject()
    tensors, state = saved.load()
    assert torch.equal(tensors["a"], torch.arange(3_000_000))
    assert state == {"curve": [1]}


def test_a_connection_that_keeps_breaking_while_a_checkpoint_is_fetched_is_told(saved, inject):
    inject({"method": "GET", "path": saved.name, "times": 999, "do": "truncate", "bytes": 1000})
    with pytest.raises(Failed, match=r"the connection to .* kept breaking"):
        Checkpoints(open_store(saved.store.uri), saved.name).load()


def test_a_checkpoint_whose_bytes_changed_is_told_and_not_gone_on_from(saved, capsys):
    """What a store that loses bits returns: as long as before, the checksum of the request is right."""
    store = saved.store
    assert isinstance(store, S3Store)
    whole, key = store.read(saved.name), store.key(saved.name)
    digest = store.client.head_object(Bucket=store.bucket, Key=key)["Metadata"]
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    store.client.put_object(Bucket=store.bucket, Key=key, Body=changed, Metadata=digest)
    assert saved.load() is None
    assert "saved.safetensors is damaged" in capsys.readouterr().out
    saved.save({"a": torch.ones(1)}, {"curve": [2]})
    assert saved.load()[1] == {"curve": [2]}


def test_a_checkpoint_that_is_replaced_while_it_is_fetched_is_whole(saved, monkeypatch):
    """By another process that trains the same."""
    copy = shutil.copyfileobj

    def copy_and_replace(source, target, length):
        copy(source, target, length)
        monkeypatch.undo()
        Checkpoints(saved.store, saved.name).save({"a": torch.zeros(1)}, {"curve": [2]})

    monkeypatch.setattr(shutil, "copyfileobj", copy_and_replace)
    assert saved.load()[1] == {"curve": [1]}


def test_a_wrong_key_is_named_before_a_training_starts(s3, monkeypatch):
    """A checkpoint is the first that a step on a cluster asks of the store."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY does not belong to this AWS_ACCESS_KEY_ID"):
        Checkpoints(open_store(s3), "saved.safetensors").load()
