"""Real runs, their trainings cut to a few steps."""

import os
from pathlib import Path

from mlflow import MlflowClient

REDUCED = (
    "threads=1",
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


def environment(**variables: str) -> dict[str, str]:
    untracked = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**untracked, **variables}


def client(out: Path) -> MlflowClient:
    """The store that the run in `out` was tracked in."""
    return MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")
