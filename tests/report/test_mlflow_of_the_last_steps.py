"""The report and register steps leave a pipeline run that can be compared, and models that can be loaded."""

import json
from pathlib import Path

import pytest
from fixtures import Reported
from mlflow import MlflowClient, artifacts

from unsee.errors import UserError
from unsee.steps import register, report
from unsee.storage import artifact
from unsee.tracking import NoTracker
from unsee.tracking.mlflow import start_parent, step_run


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = start_parent("run", {})
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


def test_parent_is_comparable_and_its_models_resolve(success: Reported, parent: str, tmp_path: Path) -> None:
    with step_run("report") as tracker:
        report.run(**success.arguments, out=tmp_path / "report", tracker=tracker)
    models = {name: success.arguments[name] for name in ("vanilla", "unlearned")}
    with step_run("register") as tracker:
        shown = register.run(
            preset="embedded", **models, summary=tmp_path / "report", out=tmp_path / "registration", tracker=tracker
        )
    assert shown == {"registered_versions": 2.0}

    client = MlflowClient()
    run = client.get_run(parent)
    assert run.info.status == "RUNNING"
    metrics = run.data.metrics
    assert (
        metrics["forget/vqa/heldout_accuracy"] == success.summary["models"]["unlearned"]["forget/vqa/heldout_accuracy"]
    )
    assert metrics["relearning/image/20/gap"] == pytest.approx(0.13)
    assert metrics["distance_to_retrained/forget/vqa/accuracy"] == 0.0
    assert run.data.params["unlearn.alpha"] == "1.25"
    assert run.data.params["forget_people"] == "6"
    assert {file.path for file in client.list_artifacts(parent)} == {"evaluation", "report.html", "summary.json"}
    predictions = client.list_artifacts(parent, "evaluation/unlearned")
    assert [file.path for file in predictions] == ["evaluation/unlearned/predictions.parquet"]
    contexts = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags}
    assert contexts == {"forget", "retain"}

    version = client.get_model_version_by_alias("unsee-embedded", "candidate")
    assert version.tags["base_sha256"] == artifact.read(models["vanilla"], "model").digest
    assert (version.tags["method"], version.tags["forget_people"], version.run_id) == ("vkd", "6", parent)
    copy = Path(artifacts.download_artifacts("models:/unsee-embedded@candidate", dst_path=str(tmp_path / "copy")))
    assert artifact.read(copy, "model").digest == artifact.read(models["unlearned"], "model").digest
    registration = json.loads((tmp_path / "registration" / "registration.json").read_text())
    assert registration["models"]["vanilla"]["aliases"] == ["vanilla"]


def test_without_a_store_nothing_is_registered_and_it_says_why(success: Reported, tmp_path: Path) -> None:
    models = {name: success.arguments[name] for name in ("vanilla", "unlearned")}
    out = tmp_path / "registration"
    shown = register.run(preset="embedded", **models, summary=success.directory, out=out, tracker=NoTracker())
    assert shown == {"registered_versions": 0.0}
    written = json.loads((out / "registration.json").read_text())
    assert written == {"models": {}, "reason": register.UNTRACKED}


def test_unfinished_model_is_not_registered(success: Reported, tmp_path: Path) -> None:
    (tmp_path / "unlearned").mkdir()
    with pytest.raises(UserError, match="no complete model"):
        register.run(
            preset="embedded",
            vanilla=success.arguments["vanilla"],
            unlearned=tmp_path / "unlearned",
            summary=success.directory,
            out=tmp_path / "registration",
            tracker=NoTracker(),
        )
    assert not (tmp_path / "registration").exists()
