"""What every KFP component does around its step: track it, show its metrics, tell why it failed. Imports no KFP."""

import json
import math
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from unsee.explain import Explanation, explain
from unsee.requests.turn import this_run
from unsee.storage.artifact import step_clock
from unsee.storage.transfer import store_root
from unsee.tracking import Tracker

STOPPED = "UNSEE_STOPPED"
FAILURE_MARK = "unsee-failure: "


class PathArtifact(Protocol):
    """A KFP artifact, as far as steps are concerned."""

    path: str


class MetricsArtifact(PathArtifact, Protocol):
    """A KFP `Output[Metrics]`: shown in the UI, and a file that the local cache looks for."""

    def log_metric(self, metric: str, value: float) -> None: ...


class Failure(BaseModel):
    """Why a step failed, as the process that ran it tells the one that started it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    explanation: Explanation
    traceback: str


@dataclass(frozen=True)
class RunningStep:
    """A step's tracker, and where its metrics are shown."""

    tracker: Tracker
    metrics: MetricsArtifact

    def show(self, values: Mapping[str, float | None]) -> None:
        """Show the metrics that have a finite value in the KFP UI; all of them are written to the artifact's file."""
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                self.metrics.log_metric(name, value)
        Path(self.metrics.path).write_text(json.dumps(dict(values), indent=2, sort_keys=True))


@contextmanager
def running(name: str, metrics: MetricsArtifact) -> Iterator[RunningStep]:
    """Run a step inside the block: timed, tracked as a nested MLflow run, its failure told."""
    from unsee.tracking.mlflow import step_run

    with step_clock(), failures_told(name), step_run(name) as tracker:
        yield RunningStep(tracker, metrics)


@contextmanager
def failures_told(name: str) -> Iterator[None]:
    """Print why the block failed in a form that `unsee run` reads; do not start it at all after another's failure.

    KFP's local engine goes on with steps that do not depend on the failed one, and with loops of a run that was
    stopped; UNSEE_STOPPED says why nothing more is to start.
    """
    if reason := os.environ.get(STOPPED):
        raise SystemExit(f"{name} was not started because {reason}")
    try:
        yield
    except Exception as error:
        failure = Failure(step=name, explanation=explain(error), traceback=traceback.format_exc())
        print(f"{FAILURE_MARK}{failure.model_dump_json()}", flush=True)
        raise


def paths(**artifacts: PathArtifact | None) -> dict[str, Path]:
    """The directory of each artifact that there is."""
    return {name: Path(artifact.path) for name, artifact in artifacts.items() if artifact is not None}


def turn() -> dict[str, str]:
    """`root` and `run_id` of the steps that answer deletion requests: where these are, and whose turn it is."""
    return {"root": store_root(), "run_id": this_run()}
