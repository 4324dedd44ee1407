"""The pipelines on a KFP server, through `kfp.Client`: uploaded, submitted, scheduled, and how they are.

There, everything is found by its name. Pipeline NAME is `unsee-NAME`, and so are the experiment of its runs and its one
schedule. A version is named after a hash of what was compiled, and a schedule says the hash of what it was made from,
so that the same thing is not made twice. Recurring runs cannot be edited: a changed one is made anew.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import kfp
from kfp_server_api import (
    ApiException,
    V2beta1GetHealthzResponse,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
    V2beta1RecurringRun,
    V2beta1RecurringRunStatus,
    V2beta1Run,
)
from urllib3.exceptions import HTTPError, MaxRetryError

from unsee import __version__
from unsee.errors import UserError
from unsee.storage.artifact import digest_of
from unsee_pipelines.arguments import parse
from unsee_pipelines.compile import PIPELINES, require_known

SECONDS_TO_ANSWER = (5, 30)
"""To connect, and for the first answer."""
ENABLED = V2beta1RecurringRunStatus.ENABLED
LATEST = "created_at desc"
LAST_RUNS = 5
SYSTEM_NAMESPACE = "kubeflow"
"""What the SDK takes for no namespace at all."""

logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it tells of every new attempt


class ServerError(Exception):
    """The server failed for a reason of its own."""


@dataclass(frozen=True)
class State:
    """How a pipeline is on the server: its newest version, its schedule if it has one, and its last runs."""

    name: str
    version: V2beta1PipelineVersion
    schedule: V2beta1RecurringRun | None
    runs: list[V2beta1Run]


@dataclass(frozen=True)
class Cluster:
    """A KFP server, as a user of one namespace sees it; None where it serves one user."""

    client: kfp.Client
    namespace: str | None

    def upload(self, name: str, compiled: Path) -> tuple[str, bool]:
        """The version that holds this YAML, and whether it is new."""
        version = f"{__version__}-{hashlib.sha256(compiled.read_bytes()).hexdigest()[:12]}"
        pipeline = self._pipeline(name) or self._create(name)
        if self._versions(pipeline, version):
            return version, False
        self.client.upload_pipeline_version(str(compiled), version, pipeline_id=pipeline.pipeline_id)
        return version, True

    def submit(self, name: str, assignments: Sequence[str], version: str | None = None) -> V2beta1Run:
        """Start a run, of the newest version if none is named.

        Args:
            assignments: "parameter=value" each.

        Raises:
            UserError: a pipeline or version that is not there, or an argument that the pipeline does not take.
        """
        found = self._version(name, version)
        arguments = parse(name, found.pipeline_spec, assignments)
        return self.client.run_pipeline(
            self._experiment(name),
            f"{_full(name)} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            params=arguments,
            pipeline_id=found.pipeline_id,
            version_id=found.pipeline_version_id,
        )

    def schedule(self, name: str, cron: str, assignments: Sequence[str], version: str | None = None) -> bool:
        """Have the pipeline run at these times, one run at a time and missed ones left out; False if it already does.

        Args:
            cron: has passed `require_cron`.
            assignments: "parameter=value" each.

        Raises:
            UserError: as `submit`.
        """
        found = self._version(name, version)
        arguments = parse(name, found.pipeline_spec, assignments)
        made_from = f"made from {digest_of([found.pipeline_version_id, cron, arguments])[:12]}"
        schedules = self._schedules(name)
        kept = next((run for run in schedules if run.description == made_from and run.status == ENABLED), None)
        if kept is None:
            self.client.create_recurring_run(
                self._experiment(name),
                _full(name),
                description=made_from,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=arguments,
                pipeline_id=found.pipeline_id,
                version_id=found.pipeline_version_id,
            )
        self._delete([run for run in schedules if run is not kept])
        return kept is None

    def unschedule(self, name: str) -> bool:
        """Delete the pipeline's schedule; False if it has none."""
        schedules = self._schedules(name)
        self._delete(schedules)
        return bool(schedules)

    def status(self, names: Sequence[str] = ()) -> list[State]:
        """How the pipelines are that were uploaded; all of them if none is named.

        Raises:
            UserError: one is named that was not.
        """
        return [self._state(name) for name in names or filter(self._pipeline, PIPELINES)]

    def _state(self, name: str) -> State:
        version = self._version(name)
        experiments = self.client.list_experiments(filter=_named(_full(name)), namespace=self.namespace).experiments
        runs = [run for experiment in experiments or [] for run in self._last_runs(experiment.experiment_id)]
        return State(name, version, next(iter(self._schedules(name)), None), runs)

    def _last_runs(self, experiment: str) -> list[V2beta1Run]:
        return self.client.list_runs(page_size=LAST_RUNS, sort_by=LATEST, experiment_id=experiment).runs or []

    def _pipeline(self, name: str) -> V2beta1Pipeline | None:
        found = self.client.list_pipelines(filter=_named(_full(name)), namespace=self.namespace).pipelines
        return found[0] if found else None

    def _create(self, name: str) -> V2beta1Pipeline:
        """A pipeline without a version: KFP would name the first one after the pipeline."""
        described = PIPELINES[name].description
        pipeline = V2beta1Pipeline(
            name=_full(name), display_name=_full(name), description=described, namespace=self.namespace
        )
        return self.client.pipelines.pipeline_service_create_pipeline(pipeline)

    def _versions(self, pipeline: V2beta1Pipeline, version: str | None = None) -> list[V2beta1PipelineVersion]:
        """The newest ones first, or the one of this name."""
        wanted = _named(version) if version else None
        listed = self.client.list_pipeline_versions(pipeline.pipeline_id, sort_by=LATEST, filter=wanted)
        return listed.pipeline_versions or []

    def _version(self, name: str, version: str | None = None) -> V2beta1PipelineVersion:
        pipeline = self._pipeline(name)
        newest = self._versions(pipeline) if pipeline else []
        if pipeline is None or not newest:
            raise UserError(f"pipeline {name} is not on the server; run unsee pipeline upload {name}")
        if version is None:
            return newest[0]
        if found := self._versions(pipeline, version):
            return found[0]
        known = ", ".join(each.display_name for each in newest)
        raise UserError(f"--version {version}: pipeline {name} has no such version; its newest are {known}")

    def _experiment(self, name: str) -> str:
        return self.client.create_experiment(_full(name), namespace=self.namespace).experiment_id

    def _schedules(self, name: str) -> list[V2beta1RecurringRun]:
        found: list[V2beta1RecurringRun] = []
        token: str | None = ""
        while token is not None:
            page = self.client.list_recurring_runs(token, namespace=self.namespace, filter=_named(_full(name)))
            found += page.recurring_runs or []
            token = page.next_page_token or None
        return found

    def _delete(self, schedules: Sequence[V2beta1RecurringRun]) -> None:
        for run in schedules:
            self.client.delete_recurring_run(run.recurring_run_id)


@contextmanager
def connected(host: str, namespace: str | None, token_file: Path | None) -> Iterator[Cluster]:
    """The server at this address; what it refuses inside the block is told in one sentence.

    Args:
        namespace: of a server for several users; None: the one this process runs in, or a server for one user.
        token_file: what to show at a login; read anew by every command.

    Raises:
        UserError: no server there, or it refuses the token or what was asked.
        ServerError: it failed.
    """
    if not host.startswith(("http://", "https://")):
        raise UserError(f"--host {host!r} is no address; write e.g. --host http://localhost:8888 (or UNSEE_KFP_HOST)")
    token = _token(token_file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            client = _Client(host=host, namespace=namespace or SYSTEM_NAMESPACE, existing_token=token)
        if not client.get_kfp_healthz().multi_user:
            client.set_user_namespace("")
        yield Cluster(client, client.get_user_namespace() or None)
    except HTTPError as error:
        reason = error.reason if isinstance(error, MaxRetryError) else error
        raise UserError(f"--host {host} does not answer ({reason}); start it or correct the address") from error
    except ApiException as error:
        raise _refusal(host, token_file, error) from error


class _Client(kfp.Client):
    """Asks how the server is once, where the SDK asks five times whatever it hears, and keeps nothing in the home
    directory, which a container may have none of."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> V2beta1GetHealthzResponse:
        """Raises UserError if what answers is no KFP, but the page of a login before it."""
        health, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(
            _request_timeout=SECONDS_TO_ANSWER
        )
        if "json" not in headers.get("Content-Type", ""):
            raise UserError(
                f"--host {self._existing_config.host} answers with a web page, not as Kubeflow Pipelines; "
                "give a token by --token-file, or the address of the service ml-pipeline"
            )
        return health

    def set_user_namespace(self, namespace: str) -> None:
        """The SDK calls it with the namespace of the pod it runs in."""
        self._context_setting["namespace"] = namespace


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        words = file.read_text(encoding="utf-8").split()
    except OSError as error:
        raise UserError(f"--token-file {file} cannot be read ({error.strerror})") from None
    if len(words) != 1:
        raise UserError(f"--token-file {file} holds {len(words)} words instead of a token")
    return words[0]


def _refusal(host: str, token_file: Path | None, error: ApiException) -> Exception:
    told = _told(error)
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        mend = (
            f"the token in --token-file {token_file} has expired or may not do this"
            if token_file
            else "give one by --token-file"
        )
        return UserError(f"--host {host} refuses ({error.status}: {told}); {mend}")
    if error.status == 0 or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(f"{host} failed ({error.status}: {told})")
    return UserError(f"--host {host} refuses what was asked ({error.status}: {told})")


def _told(error: ApiException) -> str:
    """The server's own sentence, if it is one."""
    try:
        body = json.loads(error.body or "")
        return body.get("message") or body["error_message"]
    except (ValueError, KeyError, AttributeError):
        return str(error.reason)


def _full(name: str) -> str:
    """A pipeline's name on the server, the one it is compiled with; UserError if there is no such pipeline."""
    require_known(name)
    return PIPELINES[name].pipeline_spec.pipeline_info.name


def _named(name: str) -> str:
    """A filter for what has this name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
