"""MLflow: one parent run per pipeline run, one nested run per step, model versions with their lineage.

Everything goes through an explicit `MlflowClient`: the fluent API would close the parent when a step ends. Where the
store is comes from MLFLOW_TRACKING_URI; which run is the parent from MLFLOW_RUN_ID (set by `unsee run` and by KFP's
MLflow plugin), or from the tag `kfp.pipeline_run_id` matched with KFP_RUN_ID.
"""

import json
import logging
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from unsee.errors import UserError
from unsee.tracking import NoTracker, Tracker

EXPERIMENT = "unsee"
PARENT_TAG = "mlflow.parentRunId"
PIPELINE_TAG = "kfp.pipeline_run_id"
LONGEST_PARAMETER = 6000
PARAMETERS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
SECONDS_BETWEEN_BATCHES = 5.0
SECONDS_FOR_RIVALS = 0.5
SECRET_NAME = re.compile(r"password|passwd|secret|credential|api_?key|access_?key|(^|[._])token$", re.IGNORECASE)
SECRET_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")

logger = logging.getLogger(__name__)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # else a new database announces its tables


class RunTracker:
    """Logs to one run. Metrics are collected and sent in batches: a curve of a thousand points is a few requests."""

    def __init__(self, client: MlflowClient, run_id: str):
        self.run_id = run_id
        self._client = client
        self._pending: list[Metric] = []
        self._sent = time.monotonic()

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; nested ones get dotted names. One that is already logged keeps its first value."""
        logged = self._client.get_run(self.run_id).data.params
        flat = flatten(params)
        for name in sorted(name for name in flat.keys() & logged.keys() if flat[name] != logged[name]):
            logger.warning("parameter %s of run %s stays %s (now %s)", name, self.run_id, logged[name], flat[name])
        new = [Param(name, value) for name, value in flat.items() if name not in logged]
        for batch in _batches(new, PARAMETERS_PER_BATCH):
            self._client.log_batch(self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at a training step (0 when None)."""
        now = time.time_ns() // 1_000_000
        self._pending += [Metric(_allowed_name(name), float(value), now, step or 0) for name, value in metrics.items()]
        if len(self._pending) >= METRICS_PER_BATCH or time.monotonic() - self._sent > SECONDS_BETWEEN_BATCHES:
            self.flush()

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file (into `folder` of the run's artifacts), or a directory under its own name."""
        if path.is_dir():
            self._client.log_artifacts(
                self.run_id, str(path), artifact_path="/".join(filter(None, (folder, path.name)))
            )
        else:
            self._client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def flush(self) -> None:
        """Send the metrics collected so far."""
        pending, self._pending = self._pending, []
        for batch in _batches(pending, METRICS_PER_BATCH):
            self._client.log_batch(self.run_id, metrics=batch)
        self._sent = time.monotonic()


def start_parent(
    name: str, params: Mapping[str, object], experiment: str = EXPERIMENT, tags: Mapping[str, str] | None = None
) -> str:
    """Create the run of a whole pipeline run, in state RUNNING, and return its id.

    Raises:
        UserError: the tracking server does not answer or refuses.
    """
    _require_answer(os.environ.get("MLFLOW_TRACKING_URI", ""))
    client = MlflowClient()
    try:
        run = client.create_run(_experiment_id(client, experiment), tags=dict(tags or {}), run_name=name)
        RunTracker(client, run.info.run_id).log_params(params)
    except MlflowException as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI {_redacted(client.tracking_uri)} refuses a new run: {error.message}"
        ) from error
    return run.info.run_id


def finish_parent(run_id: str, succeeded: bool) -> None:
    """Close the parent FINISHED or FAILED; steps that never said how they ended become KILLED."""
    client = MlflowClient()
    parent = client.get_run(run_id)
    for child in _children(client, parent):
        if child.info.status == "RUNNING":
            client.set_terminated(child.info.run_id, "KILLED")
    client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")


def is_configured() -> bool:
    """Whether anything is tracked: a store or a parent run is named in the environment."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_RUN_ID"))


def parent_run_id() -> str | None:
    """The run of this pipeline run: MLFLOW_RUN_ID, else the one tagged with KFP_RUN_ID, created when there is none.

    Steps that start together may each create one: the earliest stays and the others delete theirs. None when nothing
    is tracked, or when a step runs by hand, outside any pipeline.
    """
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        return run_id
    pipeline_run = os.environ.get("KFP_RUN_ID")
    if not pipeline_run or not is_configured():
        return None
    client = MlflowClient()
    return _tagged_parent(client, pipeline_run) or _create_tagged_parent(client, pipeline_run)


@contextmanager
def step_run(name: str) -> Iterator[Tracker]:
    """The tracker of a pipeline step: a run nested under the parent, closed FINISHED, FAILED or KILLED.

    A retried step goes on in the run of its first attempt. The parent's own state is never touched. SIGTERM (how
    Kubernetes stops a pod) becomes SystemExit inside the block, so that a stopped step is KILLED and cleans up.
    """
    if not is_configured():
        yield NoTracker()
        return
    client = MlflowClient()
    tracker = RunTracker(client, _step_run_id(client, parent_run_id(), name))
    status = "FAILED"
    try:
        with _termination_raises():
            yield tracker
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        try:
            tracker.flush()
        finally:
            client.set_terminated(tracker.run_id, status)


def log_to_parent(
    metrics: Mapping[str, float],
    params: Mapping[str, object] | None = None,
    artifacts: Sequence[Path] = (),
    folder: str | None = None,
) -> None:
    """What pipeline runs are compared by: final metrics, parameters and files on the parent. Untracked: nothing."""
    run_id = parent_run_id()
    if run_id is None:
        return
    tracker = RunTracker(MlflowClient(), run_id)
    tracker.log_params(params or {})
    tracker.log_metrics(metrics)
    for path in artifacts:
        tracker.log_artifact(path, folder)
    tracker.flush()


def log_dataset(name: str, digest: str, source: str, context: str, profile: Mapping[str, object]) -> None:
    """Note on the parent which data were used as what (`context`: forget, retain). Untracked: nothing.

    `digest` is a sha256 (cut to what MLflow stores); `profile` is free-form, e.g. counts. No data are copied. MLflow
    keeps one context per data set and run, so the context is part of the name.
    """
    run_id = parent_run_id()
    if run_id is None:
        return
    dataset = Dataset(
        name=f"{name}/{context}",
        digest=digest[:36],
        source_type="local" if "://" not in source else source.partition("://")[0],
        source=json.dumps({"uri": _redacted(source)}),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", context)]
    MlflowClient().log_inputs(run_id, [DatasetInput(dataset, tags=tags)])


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version and how to load it: `uri` is `models:/<name>/<version>`."""

    name: str
    version: str
    source: str
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


def register_version(
    name: str, source: Path | str, sha256: str, tags: Mapping[str, str], aliases: Sequence[str], run_id: str | None
) -> RegisteredVersion:
    """Register weights as a version of model `name` and point `aliases` at it.

    `source` is a URI the store can reach (s3://…), or a local directory. A database store keeps the directory's
    file:// address; a server refuses that, and then the files become artifacts of run `run_id`. The same bytes at the
    same source are registered once, so a retried step makes no second version; its tags are brought up to date.

    Raises:
        UserError: the server takes no local directory and no run is given to hold the files.
    """
    client = MlflowClient()
    _ensure_registered_model(client, name)
    all_tags = {**{key: _redacted(str(value)) for key, value in tags.items()}, "sha256": sha256}
    if isinstance(source, str):
        version = _find_or_create_version(client, name, source, all_tags, run_id)
    else:
        version = _register_directory(client, name, source.resolve(), all_tags, run_id)
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version.version)
    return RegisteredVersion(name, str(version.version), version.source or "", tuple(aliases))


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Parameters as MLflow takes them: dotted names, text values of bounded length, secrets as stars."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[_allowed_name(name)] = "***" if SECRET_NAME.search(name) else _parameter_text(value)
    return flat


def _allowed_name(name: str) -> str:
    """A parameter's or metric's name as MLflow takes it."""
    return re.sub(r"[^\w\-./: ]", "_", name)[:250]


def _parameter_text(value: object) -> str:
    text = _redacted(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))
    if len(text) <= LONGEST_PARAMETER:
        return text
    ending = f"… ({len(text)} characters)"
    return text[: LONGEST_PARAMETER - len(ending)] + ending


def _redacted(text: str) -> str:
    """Text without the user and password of any URL in it."""
    return SECRET_IN_URL.sub("***@", text)


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _require_answer(uri: str) -> None:
    """Fail at once on a server that is not there; MLflow's own retries take minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(SECRET_IN_URL.sub("", uri), timeout=20).close()
    except urllib.error.HTTPError:
        return
    except OSError as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI {_redacted(uri)} does not answer ({error}); start the server or correct the address"
        ) from None


def _experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment, created when absent; a database store keeps artifacts beside the database."""
    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    try:
        return client.create_experiment(name, artifact_location=_artifact_location(client.tracking_uri))
    except MlflowException:
        if found := client.get_experiment_by_name(name):
            return found.experiment_id
        raise


def _artifact_location(tracking_uri: str) -> str | None:
    if not tracking_uri.startswith("sqlite:///"):
        return None
    return (Path(tracking_uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


def _tagged_parent(client: MlflowClient, pipeline_run: str) -> str | None:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{PIPELINE_TAG}` = '{pipeline_run}'")
    parents = [run for run in runs if PARENT_TAG not in run.data.tags]
    return min(parents, key=lambda run: (run.info.start_time, run.info.run_id)).info.run_id if parents else None


def _create_tagged_parent(client: MlflowClient, pipeline_run: str) -> str:
    experiment = _experiment_id(client, os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
    ours = client.create_run(experiment, tags={PIPELINE_TAG: pipeline_run}, run_name=pipeline_run).info.run_id
    time.sleep(SECONDS_FOR_RIVALS)
    earliest = _tagged_parent(client, pipeline_run) or ours
    if earliest != ours:
        client.delete_run(ours)
    return earliest


def _children(client: MlflowClient, parent: Run) -> list[Run]:
    return client.search_runs([parent.info.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")


def _step_run_id(client: MlflowClient, parent_id: str | None, name: str) -> str:
    """The step's run, in state RUNNING: the earlier attempt's under this parent, else a new one."""
    if parent_id is None:
        return client.create_run(_experiment_id(client, EXPERIMENT), run_name=name).info.run_id
    parent = client.get_run(parent_id)
    for child in _children(client, parent):
        if child.info.run_name == name:
            client.update_run(child.info.run_id, status="RUNNING")
            return child.info.run_id
    return client.create_run(parent.info.experiment_id, tags={PARENT_TAG: parent_id}, run_name=name).info.run_id


@contextmanager
def _termination_raises() -> Iterator[None]:
    """SIGTERM raises SystemExit inside the block (Python lets only the main thread arrange that)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register_directory(
    client: MlflowClient, name: str, directory: Path, tags: Mapping[str, str], run_id: str | None
) -> ModelVersion:
    try:
        return _find_or_create_version(client, name, directory.as_uri(), tags, run_id)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    if run_id is None:
        raise UserError(
            f"MLFLOW_TRACKING_URI {_redacted(client.tracking_uri)} takes no local directory as a model ({directory}); "
            "register from within a run, which can hold the files"
        )
    folder = f"models/{tags['sha256'][:16]}"
    client.log_artifacts(run_id, str(directory), artifact_path=folder)
    uploaded = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
    return _find_or_create_version(client, name, uploaded, tags, run_id)


def _find_or_create_version(
    client: MlflowClient, name: str, source: str, tags: Mapping[str, str], run_id: str | None
) -> ModelVersion:
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source and version.tags.get("sha256") == tags["sha256"]:
            for key in (key for key, value in tags.items() if version.tags.get(key) != value):
                client.set_model_version_tag(name, version.version, key, tags[key])
            return version
    return client.create_model_version(name, source, run_id, tags=dict(tags), await_creation_for=0)
