"""The report and register steps leave a pipeline run that can be compared, and models that can be loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_run import Reported
from mlflow import MlflowClient, artifacts

from unsee.errors import UserError
from unsee.steps import register, report
from unsee.storage import artifact
from unsee.tracking import NoTracker
from unsee.tracking.mlflow import start_parent, step_run


@pytest.fixture
def parent(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
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
    assert (run.data.params["method"], run.data.params["seed"], run.data.params["forget_people"]) == ("vkd", "0", "6")
    assert run.data.params["benchmark_digest"] == success.summary["benchmark"]["digest"]
    assert {file.path for file in client.list_artifacts(parent)} == {"evaluation", "report.html", "summary.json"}
    predictions = client.list_artifacts(parent, "evaluation/unlearned")
    assert [file.path for file in predictions] == ["evaluation/unlearned/predictions.parquet"]
    contexts = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags}
    assert contexts == {"forget", "retain"}

    version = client.get_model_version_by_alias("unsee-embedded", "candidate")
    assert version.tags["base_sha256"] == json.loads((models["unlearned"] / "delta.json").read_text())["base"]["sha256"]
    assert version.tags["base_version"] == "models:/unsee-embedded/1"
    assert (version.tags["method"], version.tags["forget_people"], version.run_id) == ("vkd", "6", parent)
    assert version.tags["verdict"] == "not_recognised"
    copy = Path(artifacts.download_artifacts("models:/unsee-embedded@candidate", dst_path=str(tmp_path / "copy")))
    assert artifact.read(copy, "model").digest == artifact.read(models["unlearned"], "model").digest
    registration = json.loads((tmp_path / "registration" / "registration.json").read_text())
    assert {name: model["aliases"] for name, model in registration["models"].items()} == {
        "vanilla": ["vanilla"],
        "unlearned": ["candidate"],
    }
    assert registration["reason"] is None


def registered(run: Reported, vanilla: Path, out: Path) -> dict[str, Any]:
    """registration.json of a run that started from this vanilla model."""
    unlearned = run.arguments["unlearned"]
    register.run(
        preset="embedded", vanilla=vanilla, unlearned=unlearned, summary=run.directory, out=out, tracker=NoTracker()
    )
    return json.loads((out / "registration.json").read_text())


def test_what_was_not_forgotten_is_registered_but_no_candidate(
    success: Reported, failure: Reported, parent: str, tmp_path: Path
) -> None:
    vanilla = success.arguments["vanilla"]
    good = registered(success, vanilla, tmp_path / "good")["models"]["unlearned"]
    written = registered(failure, vanilla, tmp_path / "bad")
    bad = written["models"]["unlearned"]
    client = MlflowClient()
    assert str(client.get_model_version_by_alias("unsee-embedded", "candidate").version) == good["version"]
    assert bad["version"] != good["version"]
    assert bad["aliases"] == []
    assert client.get_model_version("unsee-embedded", bad["version"]).tags["verdict"] == "not_forgotten"
    assert written["reason"].startswith("the alias candidate was not moved to this run's unlearned model: 6 people are")


def test_a_vanilla_model_that_runs_share_carries_nothing_of_any_of_them(
    success: Reported, one_person_compared: Reported, parent: str, tmp_path: Path
) -> None:
    vanilla = success.arguments["vanilla"]
    first, second = (
        registered(run, vanilla, tmp_path / name)["models"]
        for name, run in {"first": success, "second": one_person_compared}.items()
    )
    assert first["vanilla"]["version"] == second["vanilla"]["version"]
    client = MlflowClient()
    tags = {
        name: client.get_model_version("unsee-embedded", version).tags
        for name, version in {
            "vanilla": first["vanilla"]["version"],
            "first": first["unlearned"]["version"],
            "second": second["unlearned"]["version"],
        }.items()
    }
    assert not {"method", "seed", "forget_people", "verdict", "base_sha256"} & set(tags["vanilla"])
    assert (tags["first"]["forget_people"], tags["second"]["forget_people"]) == ("6", "1")
    assert tags["first"]["base_version"] == tags["second"]["base_version"] == first["vanilla"]["uri"]


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


def test_models_on_this_machine_are_registered_where_the_store_keeps_them(
    success: Reported, parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = (tmp_path / "store").as_uri()
    monkeypatch.setenv("UNSEE_STORE", root)
    found = registered(success, success.arguments["vanilla"], tmp_path / "registration")["models"]
    for model in found.values():
        version = MlflowClient().get_model_version(model["name"], model["version"])
        assert version.source == f"{root}/model/{model['sha256']}"
        assert version.tags["sha256"] == model["sha256"]
        copy = artifacts.download_artifacts(model["uri"], dst_path=str(tmp_path / model["version"]))
        assert artifact.read(Path(copy), "model").digest == model["sha256"]
