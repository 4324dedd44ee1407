"""Runs and model versions are written to a real MLflow store and read back through its client."""

import os
import signal
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient, artifacts

from unsee.errors import UserError
from unsee.tracking import NoTracker
from unsee.tracking import mlflow as tracking
from unsee.tracking.registry import register_version
from unsee.tracking.text import flatten


@pytest.fixture
def parent(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> str:
    run_id = tracking.start_parent("vkd on embedded", {"method": "vkd", "unlearn": {"alpha": 1.25}})
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    directory = tmp_path / "weights"
    (directory / "nested").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(os.urandom(70_000))
    (directory / "nested" / "config.json").write_text("{}")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_parent_runs_until_it_is_finished_and_holds_its_parameters(store: MlflowClient, parent: str) -> None:
    run = store.get_run(parent)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"method": "vkd", "unlearn.alpha": "1.25"}
    tracking.finish_parent(parent, succeeded=True)
    assert store.get_run(parent).info.status == "FINISHED"


def test_failed_parent_closes_the_steps_that_never_ended(store: MlflowClient, parent: str) -> None:
    experiment = store.get_run(parent).info.experiment_id
    lost = store.create_run(experiment, tags={"mlflow.parentRunId": parent}, run_name="unlearn").info.run_id
    tracking.finish_parent(parent, succeeded=False)
    assert store.get_run(parent).info.status == "FAILED"
    assert store.get_run(lost).info.status == "KILLED"


def test_step_is_nested_in_the_parents_experiment_and_leaves_the_parent_running(
    store: MlflowClient, parent: str
) -> None:
    with tracking.step_run("unlearn") as tracker:
        tracker.log_params({"unlearn": {"mask": {"fraction": 0.5}, "layers": None}})
        for step in range(1500):
            tracker.log_metrics({"forget_loss": float(step), "retain_loss": 0.5}, step=step)
    run = store.get_run(tracker.run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.info.experiment_id == store.get_run(parent).info.experiment_id
    assert (run.info.run_name, run.info.status) == ("unlearn", "FINISHED")
    assert run.data.params == {"unlearn.mask.fraction": "0.5", "unlearn.layers": "null"}
    curve = store.get_metric_history(tracker.run_id, "forget_loss")
    assert [point.step for point in curve] == list(range(1500))
    assert store.get_run(parent).info.status == "RUNNING"


def test_artifacts_lie_beside_the_database(store: MlflowClient, parent: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>report</p>")
    with tracking.step_run("report") as tracker:
        tracker.log_artifact(tmp_path / "report.html")
    assert [file.path for file in store.list_artifacts(tracker.run_id)] == ["report.html"]
    assert (tmp_path / "mlartifacts").is_dir()
    assert not (tmp_path / "mlruns").exists()


def test_failing_step_is_failed_and_keeps_its_curve(store: MlflowClient, parent: str) -> None:
    with pytest.raises(RuntimeError), tracking.step_run("unlearn") as tracker:
        tracker.log_metrics({"loss": 1.0}, step=0)
        raise RuntimeError("loss became NaN")
    assert store.get_run(tracker.run_id).info.status == "FAILED"
    assert store.get_run(tracker.run_id).data.metrics == {"loss": 1.0}


def test_terminated_step_is_killed(store: MlflowClient, parent: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), tracking.step_run("unlearn") as tracker:
        os.kill(os.getpid(), signal.SIGTERM)
    assert store.get_run(tracker.run_id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) == before


def test_retried_step_reuses_its_run_and_keeps_its_parameters(store: MlflowClient, parent: str) -> None:
    with pytest.raises(RuntimeError), tracking.step_run("unlearn") as first:
        first.log_params({"alpha": 1.25})
        raise RuntimeError("killed")
    with tracking.step_run("unlearn") as second:
        assert store.get_run(second.run_id).info.status == "RUNNING"
        second.log_params({"alpha": 2.0, "beta": 0.3})
    assert second.run_id == first.run_id
    assert store.get_run(second.run_id).data.params == {"alpha": "1.25", "beta": "0.3"}
    assert store.get_run(second.run_id).info.status == "FINISHED"


def test_a_parameter_that_another_step_logs_at_the_same_moment_keeps_that_value(
    store: MlflowClient, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch = MlflowClient.log_batch

    def slower(client: MlflowClient, run_id: str, **logged: object) -> None:
        monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
        tracking.log_to_parent({}, {"seed": 1})
        client.log_batch(run_id, **logged)

    monkeypatch.setattr(MlflowClient, "log_batch", slower)
    tracking.log_to_parent({}, {"seed": 0, "forget": 20})
    params = store.get_run(parent).data.params
    assert (params["seed"], params["forget"]) == ("1", "20")


def test_parent_carries_the_final_metrics_and_files(store: MlflowClient, parent: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    tracking.log_to_parent({"forget/vqa/accuracy": 0.25}, {"seed": 0}, [tmp_path / "summary.json"])
    run = store.get_run(parent)
    assert run.data.metrics == {"forget/vqa/accuracy": 0.25}
    assert run.data.params["seed"] == "0"
    assert [file.path for file in store.list_artifacts(parent)] == ["summary.json"]


def test_metrics_may_be_named_by_settings(store: MlflowClient, parent: str) -> None:
    """A method of a comparison is called by what it is changed by; MLflow refuses some of these characters."""
    tracking.log_to_parent({"vkd unlearn.mask={fraction:0.5}/distance": 0.1})
    assert store.get_run(parent).data.metrics == {"vkd unlearn.mask__fraction:0.5_/distance": 0.1}


def test_dataset_is_noted_with_its_context(store: MlflowClient, parent: str) -> None:
    tracking.log_dataset("embedded", "ab" * 32, "/data/benchmark", "forget", {"people": 20})
    (dataset_input,) = store.get_run(parent).inputs.dataset_inputs
    assert dataset_input.dataset.name == "embedded/forget"
    assert dataset_input.dataset.digest == ("ab" * 32)[:36]
    assert [(tag.key, tag.value) for tag in dataset_input.tags] == [("mlflow.data.context", "forget")]


def test_nothing_configured_tracks_nothing(tmp_path: Path) -> None:
    with tracking.step_run("unlearn") as tracker:
        tracker.log_metrics({"loss": 1.0})
    assert isinstance(tracker, NoTracker)
    assert tracking.parent_run_id() is None
    assert list(tmp_path.iterdir()) == []


def test_step_by_hand_is_a_run_of_its_own(store: MlflowClient) -> None:
    with tracking.step_run("unlearn") as tracker:
        tracker.log_metrics({"loss": 1.0})
    assert "mlflow.parentRunId" not in store.get_run(tracker.run_id).data.tags


def test_steps_of_one_pipeline_run_find_the_same_parent(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "0d5c9a6e-run")
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(tracking.parent_run_id())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    monkeypatch.setenv("KFP_RUN_ID", "another-run")
    other = tracking.parent_run_id()
    monkeypatch.setenv("KFP_RUN_ID", "0d5c9a6e-run")
    with tracking.step_run("prune") as tracker:
        pass
    assert other != tracking.parent_run_id()
    assert store.get_run(tracker.run_id).data.tags["mlflow.parentRunId"] == tracking.parent_run_id()


def test_secrets_and_long_values_never_reach_the_store() -> None:
    flat = flatten(
        {
            "s3": {"secret_key": "hunter2", "endpoint": "https://user:hunter2@store/bucket"},
            "tokenizer": "byte-level",
            "ids": "x" * 10_000,
            "percents": (10, 20),
        }
    )
    assert "hunter2" not in str(flat)
    assert flat["s3.endpoint"] == "https://***@store/bucket"
    assert flat["tokenizer"] == "byte-level"
    assert flat["percents"] == "[10, 20]"
    assert len(flat["ids"]) == 6000
    assert flat["ids"].endswith("… (10000 characters)")


def test_server_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hunter2@127.0.0.1:9")
    with pytest.raises(UserError, match="does not answer") as caught:
        tracking.start_parent("run", {})
    assert "hunter2" not in str(caught.value)


def test_version_resolves_through_its_alias_to_the_same_bytes(
    store: MlflowClient, parent: str, weights: Path, tmp_path: Path
) -> None:
    tags = {"method": "vkd", "seed": "0"}
    version = register_version("unsee-embedded", weights, "c0ffee", tags, ["candidate"], parent)
    assert version.source == weights.as_uri()
    assert version.uri == "models:/unsee-embedded/1"
    found = store.get_model_version_by_alias("unsee-embedded", "candidate")
    assert found.tags == {"method": "vkd", "seed": "0", "sha256": "c0ffee"}
    assert found.run_id == parent
    copy = artifacts.download_artifacts("models:/unsee-embedded@candidate", dst_path=str(tmp_path / "copy"))
    assert contents(Path(copy)) == contents(weights)


def test_same_bytes_at_the_same_place_are_one_version(store: MlflowClient, parent: str, weights: Path) -> None:
    first = register_version("unsee-embedded", weights, "c0ffee", {"unsee": "0.1"}, ["candidate"], parent)
    again = register_version("unsee-embedded", weights, "c0ffee", {"unsee": "0.2"}, ["candidate"], parent)
    changed = register_version("unsee-embedded", weights, "decaf", {}, ["candidate"], parent)
    assert (first.version, again.version, changed.version) == ("1", "1", "2")
    assert store.get_model_version_by_alias("unsee-embedded", "candidate").version == 2
    assert store.get_model_version("unsee-embedded", "1").tags == {"unsee": "0.2", "sha256": "c0ffee"}


def test_remote_source_is_registered_as_it_is(store: MlflowClient, parent: str) -> None:
    version = register_version("unsee-llava", "s3://bucket/vanilla", "c0ffee", {}, ["vanilla"], parent)
    assert store.get_model_version("unsee-llava", version.version).source == "s3://bucket/vanilla"


def test_server_nests_runs_and_holds_the_files_it_cannot_reach(
    server: MlflowClient, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tracking.start_parent("vkd on embedded", {"seed": 0})
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    with tracking.step_run("unlearn") as step:
        step.log_metrics({"loss": 1.0}, step=3)
    with tracking.step_run("register") as registering:
        version = register_version(
            "unsee-embedded", weights, "c0ffee", {"method": "vkd"}, ["candidate"], registering.run_id
        )
        again = register_version("unsee-embedded", weights, "c0ffee", {}, [], registering.run_id)
    tracking.finish_parent(parent, succeeded=True)

    assert server.get_run(parent).info.status == "FINISHED"
    assert server.get_run(step.run_id).data.tags["mlflow.parentRunId"] == parent
    assert server.get_run(step.run_id).data.metrics == {"loss": 1.0}
    assert version.source.startswith("mlflow-artifacts:/")
    assert again.version == version.version
    copy = artifacts.download_artifacts("models:/unsee-embedded@candidate", dst_path=str(tmp_path / "copy"))
    assert contents(Path(copy)) == contents(weights)
    with pytest.raises(UserError, match="register from within a run"):
        register_version("unsee-embedded", tmp_path / "copy", "decaf", {}, [], None)
