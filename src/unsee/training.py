"""The one optimisation loop: AdamW, a schedule, checkpoints, and a stop when a loss is no number.

What a step does to the gradients is the caller's; so are objectives, masks and data. Data order must depend on the
step number alone, so that a run killed at any instant and started again ends in the same weights bit for bit.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from unsee.code import code_digest
from unsee.errors import TrainingFailure, UserError
from unsee.parallel import as_main, for_main, is_main, share_like, tensors_as_main, whole
from unsee.progress import progress, say
from unsee.storage.artifact import digest_of
from unsee.storage.store import Damaged, Missing, Store, open_store
from unsee.storage.transfer import CHECKPOINTS
from unsee.tracking import NoTracker, Tracker

Curve = list[dict[str, float]]


@dataclass(frozen=True)
class Checkpoints:
    """Where a training saves itself: one object of a store, keyed by what the training depends on, replaced whole.

    Two runs that train the same may save to the same object. Of a step's processes only the main one saves and loads.

    seconds: least time between two saves. None as `store` saves nothing.
    """

    store: Store | None = None
    name: str = ""
    seconds: float = 10.0

    @classmethod
    def of(cls, *inputs: Any) -> "Checkpoints":
        """A checkpoint keyed by these inputs and the code, in the store at $UNSEE_CHECKPOINTS; none if unset.

        Raises:
            UserError: that is no address of a store (s3://bucket/prefix, file:///directory).
        """
        root = os.environ.get(CHECKPOINTS)
        if not root:
            return cls()
        key = digest_of([code_digest(), *inputs])
        return cls(open_store(root), f"{key}.safetensors", float(os.environ.get("UNSEE_CHECKPOINT_SECONDS", "10")))

    @property
    def address(self) -> str:
        """Where the saved state is, for people."""
        return f"{self.store.uri}/{self.name}" if self.store else "nowhere"

    def save(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Replace the saved state."""
        if self.store is not None and is_main():
            with self.store.writing(self.name) as file:
                save_file(tensors, file, metadata={"state": json.dumps(state)})

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The saved state; None if there is none, or only a damaged one, which is said."""
        found = self._load() if is_main() else None
        state = as_main(found and found[1])
        return None if state is None else (tensors_as_main(found[0] if found else {}), state)

    def _load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        if self.store is None:
            return None
        try:
            with self.store.reading(self.name) as file, safe_open(file, framework="pt") as saved:
                tensors = {name: saved.get_tensor(name) for name in saved.offset_keys()}
                return tensors, json.loads(saved.metadata()["state"])
        except Missing:
            return None
        except (SafetensorError, Damaged) as error:
            say(f"checkpoint {self.address} is damaged ({error}) and will be replaced: starting from the beginning")
            return None

    def clear(self) -> None:
        """Forget the saved state, once the result is published."""
        if self.store is not None and is_main():
            self.store.delete(self.name)


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast, after a linear warm-up. cosine: to 2 %, else constant. decay: the last share of the steps,
    over which the learning rate falls to zero on a line."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup: int = 0
    cosine: bool = False
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        curve = 0.02 + 0.98 * (1 + math.cos(math.pi * step / self.steps)) / 2 if self.cosine else 1.0
        fall = min(1.0, (self.steps - step) / (self.steps * self.decay)) if self.decay else 1.0
        return self.learning_rate * warm * curve * fall


@dataclass
class Training:
    """Parameters, and what to do with them at each step.

    gradients(step) fills `.grad` and returns the losses to record, both over all processes; after_step() may look at
    the weights.
    The tracker is told the losses of a step as soon as they are known; on going on from a checkpoint, which may be in
    another run of the tracker, those of the steps before it as well.
    """

    parameters: Mapping[str, nn.Parameter]
    gradients: Callable[[int], dict[str, float]]
    optimisation: Optimisation
    description: str
    after_step: Callable[[], None] = lambda: None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    tracker: Tracker = field(default_factory=NoTracker)

    def run(self) -> Curve:
        """Optimise to the end, from a checkpoint if there is one.

        Raises:
            TrainingFailure: a recorded loss, a gradient or, at the end, a weight is NaN or infinite.
        """
        rule = self.optimisation
        optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=rule.learning_rate, betas=rule.betas, weight_decay=rule.weight_decay
        )
        curve = self._resume(optimizer)
        for point in curve:
            self._tell(point)
        saved = time.monotonic()
        for step in progress(range(len(curve), rule.steps), self.description):
            optimizer.param_groups[0]["lr"] = rule.rate(step)
            optimizer.zero_grad(set_to_none=True)
            losses = self.gradients(step)
            gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
            self._check(step + 1, {**losses, "the gradient's norm": joint_norm(gradients)})
            optimizer.step()
            self.after_step()
            curve.append({"step": step + 1, **losses})
            if self.checkpoints.store and as_main(time.monotonic() - saved > self.checkpoints.seconds):
                self._save(optimizer, curve)
                saved = time.monotonic()
            self._tell(curve[-1])
        optimizer.zero_grad(set_to_none=True)
        self._check(len(curve), {name: float(whole(p.detach().sum())) for name, p in self.parameters.items()})
        return curve

    def _tell(self, point: Mapping[str, float]) -> None:
        self.tracker.log_metrics({k: v for k, v in point.items() if k != "step"}, step=int(point["step"]))

    def _check(self, step: int, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise TrainingFailure(
                    f"{self.description}: {name} became {loss} at step {step}; nothing was published; "
                    f"lower the learning rate ({self.optimisation.learning_rate:g})"
                )

    def _save(self, optimizer: torch.optim.Optimizer, curve: Curve) -> None:
        tensors = {f"parameter/{name}": p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        self.checkpoints.save(for_main(tensors), {"curve": curve})

    def _resume(self, optimizer: torch.optim.Optimizer) -> Curve:
        saved = self.checkpoints.load()
        if saved is None:
            return []
        tensors, state = saved
        if {n for n in tensors if n.startswith("parameter/")} != {f"parameter/{n}" for n in self.parameters}:
            raise UserError(f"{self.checkpoints.address} is a checkpoint of another training; delete it")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(share_like(tensors[f"parameter/{name}"], parameter))
                keys = [key for key in ("exp_avg", "exp_avg_sq") if f"{key}/{name}" in tensors]
                saved_here = {key: tensors[f"{key}/{name}"].to(parameter.device) for key in keys}
                kept = {key: share_like(tensor, parameter).clone() for key, tensor in saved_here.items()}
                if kept:
                    optimizer.state[parameter] = {"step": tensors[f"step/{name}"].clone(), **kept}
        return state["curve"]


def clip(gradients: list[torch.Tensor], largest: float) -> float:
    """Scale gradients in place so that their joint norm is at most `largest`; returns the norm before."""
    norm = joint_norm(gradients)
    if norm > largest:
        for gradient in gradients:
            gradient.mul_(largest / norm)
    return norm


def joint_norm(tensors: Sequence[torch.Tensor]) -> float:
    """The Euclidean norm of all entries; 0 of none."""
    norms = [whole(torch.linalg.vector_norm(tensor)) for tensor in tensors]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
