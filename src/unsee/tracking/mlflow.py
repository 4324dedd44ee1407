"""MLflow: one parent run per pipeline run, one nested run per step.

Everything goes through an explicit `MlflowClient`: the fluent API would close the parent when a step ends. Where the
store is comes from MLFLOW_TRACKING_URI; which run is the parent from MLFLOW_RUN_ID or, where that is not set, from the
tag `kfp.pipeline_run_id` matched with KFP_RUN_ID. MLFLOW_RUN_ID is the parent itself in `unsee run`, and a run nested
in it, made for the step, where KFP's MLflow plugin sets it (`injectUserEnvVars`). Who made the parent closes it.
"""

import json
import logging
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.exceptions import MlflowException

from unsee.errors import UserError
from unsee.locks import locked
from unsee.tracking import NoTracker, Tracker
from unsee.tracking.text import SECRET_IN_URL, allowed_name, flatten, redacted

EXPERIMENT = "unsee"
SQLITE = "sqlite:///"
PARENT_TAG = "mlflow.parentRunId"
PIPELINE_TAG = "kfp.pipeline_run_id"
PARAMETERS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
SECONDS_BETWEEN_BATCHES = 5.0
SECONDS_FOR_RIVALS = 0.5

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
        """Log parameters; nested ones get dotted names. One that is already logged keeps its first value, also where
        another step logs it at the same moment."""
        logged, flat = self._params(), flatten(params)
        for name in sorted(name for name in flat.keys() & logged.keys() if flat[name] != logged[name]):
            logger.warning("parameter %s of run %s stays %s (now %s)", name, self.run_id, logged[name], flat[name])
        new = [Param(name, value) for name, value in flat.items() if name not in logged]
        try:
            for batch in _batches(new, PARAMETERS_PER_BATCH):
                self._client.log_batch(self.run_id, params=batch)
        except MlflowException:
            if self._params().keys() == logged.keys():
                raise
            self.log_params(params)

    def _params(self) -> dict[str, str]:
        return self._client.get_run(self.run_id).data.params

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at a training step (0 when None)."""
        now = time.time_ns() // 1_000_000
        self._pending += [Metric(allowed_name(name), float(value), now, step or 0) for name, value in metrics.items()]
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
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    _require_answer(uri)
    with _first_alone(uri):
        client = MlflowClient()
    try:
        run = client.create_run(_experiment_id(client, experiment), tags=dict(tags or {}), run_name=name)
        RunTracker(client, run.info.run_id).log_params(params)
    except MlflowException as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI {redacted(client.tracking_uri)} refuses a new run: {error.message}"
        ) from error
    return run.info.run_id


def finish_parent(run_id: str, succeeded: bool) -> None:
    """Close a parent that was created here, FINISHED or FAILED; steps that never said how they ended become KILLED."""
    client = MlflowClient()
    parent = client.get_run(run_id)
    for child in _children(client, parent):
        if child.info.status == "RUNNING":
            client.set_terminated(child.info.run_id, "KILLED")
    client.set_terminated(run_id, "FINISHED" if succeeded else "FAILED")


def finish_tagged_parent(succeeded: bool) -> None:
    """Close the parent that steps created by KFP_RUN_ID. One that MLFLOW_RUN_ID names is closed by who set that."""
    if not os.environ.get("MLFLOW_RUN_ID") and (run_id := parent_run_id()):
        finish_parent(run_id, succeeded)


def is_configured() -> bool:
    """Whether anything is tracked: a store or a parent run is named in the environment."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_RUN_ID"))


def parent_run_id() -> str | None:
    """The run of this pipeline run: that of MLFLOW_RUN_ID, else the one tagged with KFP_RUN_ID, created if need be.

    Steps that start together may each create one: the earliest stays and the others delete theirs. None when nothing
    is tracked, or when a step runs by hand, outside any pipeline.
    """
    if given := os.environ.get("MLFLOW_RUN_ID"):
        return _outermost(MlflowClient(), given)
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
    tracker = RunTracker(client, _given_step_run(client) or _step_run_id(client, parent_run_id(), name))
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
        source=json.dumps({"uri": redacted(source)}),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", context)]
    MlflowClient().log_inputs(run_id, [DatasetInput(dataset, tags=tags)])


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
            f"MLFLOW_TRACKING_URI {redacted(uri)} does not answer ({error}); start the server or correct the address"
        ) from None


def _first_alone(uri: str) -> AbstractContextManager[None]:
    """MLflow makes a database file for one at a time, and its directory, when a client is made."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    file = Path(uri.removeprefix(SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    return locked(file.with_name(f"{file.name}.lock"))


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
    if not tracking_uri.startswith(SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


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


def _outermost(client: MlflowClient, run_id: str) -> str:
    """The run that this one is nested in, at whatever depth: a loop of a pipeline is a run in between."""
    while parent := client.get_run(run_id).data.tags.get(PARENT_TAG):
        run_id = parent
    return run_id


def _given_step_run(client: MlflowClient) -> str | None:
    """The run that KFP's MLflow plugin made for this step, if it did: a nested one."""
    given = os.environ.get("MLFLOW_RUN_ID")
    if not given or _outermost(client, given) == given:
        return None
    client.update_run(given, status="RUNNING")
    return given


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
