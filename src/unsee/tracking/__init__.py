"""What steps tell the experiment tracker. `Tracker` is all they see; `mlflow` beside it is the real one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# MLflow reads them when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


class Tracker(Protocol):
    """Where a step sends parameters, metrics, training curves and files."""

    def log_params(self, params: Mapping[str, object]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_artifact(self, path: Path) -> None: ...


class NoTracker:
    """Tracks nothing: for library use and tests."""

    def log_params(self, params: Mapping[str, object]) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_artifact(self, path: Path) -> None:
        pass
