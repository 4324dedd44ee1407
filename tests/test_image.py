"""Which image a run's steps ran in is told on its MLflow run, and in what it reports."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unsee.image import image_reference, log_image
from unsee.report.summary import versions

REFERENCE = "registry.example/unsee@sha256:" + "0" * 64


@pytest.fixture
def run_id(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow run of steps that are told a reference."""
    monkeypatch.setenv("UNSEE_IMAGE", REFERENCE)
    client = MlflowClient()
    experiment = client.create_experiment("unsee", artifact_location=(tmp_path / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


def test_in_an_image_the_run_has_its_reference_and_bill_of_materials(run_id, tmp_path, monkeypatch):
    bill = tmp_path / "sbom.cdx.json"
    bill.write_text("{}")
    monkeypatch.setenv("UNSEE_SBOM", str(bill))
    log_image()
    client = MlflowClient()
    assert client.get_run(run_id).data.tags["unsee.image"] == REFERENCE
    assert [file.path for file in client.list_artifacts(run_id)] == ["sbom.cdx.json"]
    assert versions()["image"] == REFERENCE


def test_steps_that_run_in_no_image_name_none_though_the_pipeline_does(run_id):
    log_image()
    client = MlflowClient()
    assert "unsee.image" not in client.get_run(run_id).data.tags
    assert client.list_artifacts(run_id) == []
    assert image_reference() is None
    assert "image" not in versions()
