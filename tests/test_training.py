"""The optimisation loop: what AdamW says, bit for bit the same after any interruption, and no step on a NaN."""

import math
import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unsee
from unsee.errors import TrainingFailure, UserError
from unsee.storage.store import FileStore
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker
from unsee.training import Checkpoints, Optimisation, Training, clip

RULE = Optimisation(steps=12, learning_rate=0.05, weight_decay=0.1, warmup=3, cosine=True)


class Interrupted(Exception):
    """Stands for a kill between two steps."""


class Regression:
    """Two tensors fitted to targets that depend on the step number alone; `stops` are the steps it dies at, once."""

    def __init__(self, stops: set[int] | None = None):
        generator = torch.Generator().manual_seed(0)
        self.parameters = {
            name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in (("w", (4, 3)), ("b", (4,)))
        }
        self.stops = stops if stops is not None else set()

    def gradients(self, step: int) -> dict[str, float]:
        if step in self.stops:
            self.stops.remove(step)
            raise Interrupted
        generator = torch.Generator().manual_seed(step)
        inputs, targets = torch.randn(8, 3, generator=generator), torch.randn(8, 4, generator=generator)
        loss = (inputs @ self.parameters["w"].T + self.parameters["b"] - targets).square().mean()
        loss.backward()
        clip([p.grad for p in self.parameters.values()], 0.5)
        return {"loss": float(loss.detach())}

    def train(self, checkpoints: Checkpoints | None = None, **changes):
        training = Training(
            self.parameters, self.gradients, RULE, "fitting", checkpoints=checkpoints or Checkpoints(), **changes
        )
        return training.run()

    @property
    def bits(self) -> dict[str, list[int]]:
        return {n: p.detach().contiguous().view(torch.int32).flatten().tolist() for n, p in self.parameters.items()}


def train_through_interruptions(stops: set[int], file: Path) -> tuple[Regression, list]:
    """Start anew, as a new process would, until a run gets to the end."""
    while True:
        work = Regression(stops)
        try:
            return work, work.train(Checkpoints(FileStore(file.parent), file.name, seconds=-1))
        except Interrupted:
            continue


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, RULE.steps - 1), max_size=5))
def test_a_training_interrupted_at_any_steps_ends_in_the_same_bits(stops):
    undisturbed = Regression()
    curve = undisturbed.train()
    with TemporaryDirectory() as folder:
        resumed, resumed_curve = train_through_interruptions(set(stops), Path(folder) / "saved.safetensors")
    assert resumed.bits == undisturbed.bits
    assert resumed_curve == curve


def test_a_resumed_training_does_not_repeat_what_was_saved(tmp_path):
    checkpoints = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1)
    with pytest.raises(Interrupted):
        Regression({7}).train(checkpoints)
    seen = []
    work = Regression()
    original = work.gradients
    work.gradients = lambda step: (seen.append(step), original(step))[1]
    work.train(checkpoints)
    assert seen == list(range(7, RULE.steps))


def test_the_updates_are_adamw_s_with_warm_up_cosine_and_decay():
    ours, stock = Regression(), Regression()
    ours.train()
    optimizer = torch.optim.AdamW(stock.parameters.values(), lr=1.0, betas=RULE.betas, weight_decay=0.1)
    for step in range(RULE.steps):
        cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * step / RULE.steps)) / 2
        optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, (step + 1) / 3) * cosine
        optimizer.zero_grad()
        stock.gradients(step)
        optimizer.step()
    assert ours.bits == stock.bits


def test_a_constant_rate_stays_constant():
    rule = replace(RULE, warmup=0, cosine=False)
    assert {rule.rate(step) for step in range(rule.steps)} == {0.05}


def test_after_step_sees_every_update_and_may_undo_it():
    work = Regression()
    before = work.parameters["b"].detach().clone()
    calls = []

    def put_back() -> None:
        calls.append(1)
        work.parameters["b"].data.copy_(before)

    work.train(after_step=put_back)
    assert len(calls) == RULE.steps
    assert torch.equal(work.parameters["b"], before)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_update(loss):
    work = Regression()
    original = work.gradients
    reached = {}

    def gradients(step: int) -> dict[str, float]:
        reached.update(work.bits)
        found = original(step)
        return {"loss": loss} if step == 3 else found

    work.gradients = gradients
    with pytest.raises(TrainingFailure, match=r"fitting: loss became (nan|inf) at step 4;.*lower the learning rate"):
        work.train()
    assert work.bits == reached


def test_a_gradient_that_is_no_number_stops_though_the_loss_is_one():
    work = Regression()
    original = work.gradients

    def gradients(step: int) -> dict[str, float]:
        found = original(step)
        if step == 3:
            work.parameters["w"].grad[0, 0] = float("nan")
        return found

    work.gradients = gradients
    with pytest.raises(TrainingFailure, match=r"fitting: the gradient's norm became nan at step 4"):
        work.train()
    assert all(bool(p.isfinite().all()) for p in work.parameters.values())


def test_weights_that_the_last_step_blew_up_are_told():
    work = Regression()
    original = work.gradients

    def gradients(step: int) -> dict[str, float]:
        if step == RULE.steps - 1:
            work.parameters["b"].data.fill_(float("inf"))
            work.parameters["w"].grad = torch.zeros_like(work.parameters["w"])
            return {"loss": 0.0}
        return original(step)

    work.gradients = gradients
    with pytest.raises(TrainingFailure, match=r"fitting: b became inf at step 12"):
        work.train()


class Recorder(NoTracker):
    """Keeps the points it is told."""

    def __init__(self):
        self.points = []

    def log_metrics(self, metrics, step=None):
        self.points.append({"step": step, **metrics})


def test_the_curve_is_told_as_it_grows_up_to_where_a_training_fails():
    recorder = Recorder()
    with pytest.raises(Interrupted):
        Regression({5}).train(tracker=recorder)
    assert recorder.points == Regression().train()[:5]


def test_a_resumed_training_tells_the_whole_curve_once(tmp_path):
    checkpoints = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1)
    with pytest.raises(Interrupted):
        Regression({5}).train(checkpoints)
    recorder = Recorder()
    curve = Regression().train(checkpoints, tracker=recorder)
    assert recorder.points == curve
    assert [point["step"] for point in curve] == list(range(1, RULE.steps + 1))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    checkpoints = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1)
    Regression().train(checkpoints)
    other = Regression()
    other.parameters = {"renamed": other.parameters["w"], "b": other.parameters["b"]}
    with pytest.raises(UserError, match=r"saved\.safetensors is a checkpoint of another training; delete it"):
        other.train(checkpoints)


def test_checkpoints_lie_where_the_environment_says_keyed_by_their_inputs(tmp_path, monkeypatch):
    monkeypatch.delenv(CHECKPOINTS, raising=False)
    assert Checkpoints.of("a").store is None
    monkeypatch.setenv(CHECKPOINTS, tmp_path.as_uri())
    one, same, other = (
        Checkpoints.of("a", {"rate": 1}),
        Checkpoints.of("a", {"rate": 1}),
        Checkpoints.of("a", {"rate": 2}),
    )
    assert one.address == same.address != other.address
    assert one.address.startswith(f"{tmp_path.as_uri()}/")


def test_checkpoints_at_what_is_no_address_are_refused(monkeypatch):
    monkeypatch.setenv(CHECKPOINTS, "/tmp/checkpoints")
    with pytest.raises(UserError, match="'/tmp/checkpoints' is no address of a store"):
        Checkpoints.of("a")


def test_a_checkpoint_of_other_code_is_not_gone_on_from(tmp_path, monkeypatch):
    package = tmp_path / "unsee"
    shutil.copytree(Path(unsee.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.setenv(CHECKPOINTS, (tmp_path / "checkpoints").as_uri())
    monkeypatch.setenv("UNSEE_CHECKPOINT_SECONDS", "-1")
    monkeypatch.setattr(unsee, "__file__", str(package / "__init__.py"))
    Regression().train(Checkpoints.of("fitting"))
    assert Checkpoints.of("fitting").load() is not None
    (package / "pruning.py").write_text("# changed")
    assert Checkpoints.of("fitting").load() is None


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_said_and_replaced(tmp_path, capsys, size):
    checkpoints = Checkpoints(FileStore(tmp_path), "saved.safetensors", seconds=-1)
    undisturbed = Regression()
    curve = undisturbed.train(checkpoints)
    whole = checkpoints.store.read(checkpoints.name)
    checkpoints.store.write(checkpoints.name, whole[:size])
    resumed = Regression()
    assert resumed.train(checkpoints) == curve
    assert resumed.bits == undisturbed.bits
    assert f"checkpoint {checkpoints.address} is damaged" in capsys.readouterr().out
    assert checkpoints.load() is not None


def save_often(file: Path) -> None:
    for number in range(100):
        Checkpoints(FileStore(file.parent), file.name).save({"a": torch.full((1000,), number)}, {"curve": [number]})


def test_two_processes_may_save_to_one_checkpoint(tmp_path):
    file = tmp_path / "saved.safetensors"
    writers = [get_context("fork").Process(target=save_often, args=(file,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    tensors, state = Checkpoints(FileStore(file.parent), file.name).load()
    assert tensors["a"].tolist() == [99] * 1000
    assert state == {"curve": [99]}
    assert list(tmp_path.iterdir()) == [file]


def test_a_cleared_checkpoint_is_gone(tmp_path):
    checkpoints = Checkpoints(FileStore(tmp_path / "deep"), "saved.safetensors")
    checkpoints.save({"a": torch.ones(2)}, {"curve": []})
    tensors, state = checkpoints.load()
    assert torch.equal(tensors["a"], torch.ones(2))
    assert state == {"curve": []}
    checkpoints.clear()
    assert checkpoints.load() is None
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(("largest", "scale"), [(10.0, 1.0), (2.5, 0.5)])
def test_clip_bounds_the_joint_norm(largest, scale):
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert clip(gradients, largest) == 5.0
    assert gradients[0].tolist() == [3.0 * scale, 0.0]
    assert gradients[1].tolist() == [[4.0 * scale]]


def test_the_learning_rate_warms_up_holds_and_falls_to_zero_at_the_end():
    rule = Optimisation(steps=20, learning_rate=1.0, warmup=4, decay=0.5)
    rates = [rule.rate(step) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:11] == [1.0] * 7
    assert rates[11:] == pytest.approx([0.9 - 0.1 * i for i in range(9)])
