"""A database of MLflow's that is not there yet is made, with the directory it is to lie in."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unsee.tracking.mlflow import start_parent


def test_a_database_in_a_directory_that_is_not_there_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'not/there/mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert MlflowClient(uri).get_run(start_parent("vkd", {})).info.run_name == "vkd"
