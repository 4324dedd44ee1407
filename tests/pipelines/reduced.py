"""Real runs, their trainings cut to a few steps."""

import os
import sys
from pathlib import Path

from mlflow import MlflowClient

REDUCED = (
    "compute.threads=1",
    "benchmark.forget=2",
    "benchmark.retain=3",
    "benchmark.train_views=2",
    "benchmark.heldout_views=1",
    "vanilla.text_steps=1",
    "vanilla.steps=2",
    "vanilla.batch_images=4",
    "unlearn.epochs=1",
    "unlearn.least_steps=1",
    "unlearn.versions=2",
    "evaluation.bootstrap=10",
    "evaluation.generate=false",
    "relearn.percents=[50]",
    "relearn.samplings=[person]",
    "relearn.epochs=1",
)

INDEPENDENT_OF_THRESHOLD = {
    "prepare-benchmark",
    "build-vanilla",
    "build-retrained",
    "collect-statistics",
    "evaluate-vanilla",
    "evaluate-retrained",
    "relearn-vanilla",
    "relearn-retrained",
}
"""The steps of a run that the threshold of pruning does not reach."""


def command(out: Path, *settings: str, lora: bool = False, **options: str) -> list[str]:
    """`unsee run` with these settings and options. lora: vanilla is not fine-tuned whole."""
    others = (*["benchmark."] * ("benchmark" in options), *["vanilla."] * lora)
    reduced = [setting for setting in REDUCED if not setting.startswith(others)]
    assignments = [part for setting in (*reduced, *settings) for part in ("--set", setting)]
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(Path(sys.executable).with_name("unsee")), "run", "--out", str(out), *assignments, *given]


def environment(**variables: str) -> dict[str, str]:
    untracked = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**untracked, **variables}


def client(out: Path) -> MlflowClient:
    """The store that the run in `out` was tracked in."""
    return MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")
