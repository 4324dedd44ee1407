"""A server that speaks the v2beta1 API of Kubeflow Pipelines, on a loopback port, with everything in memory.

Requests are read and answers written with the models of kfp_server_api: a body with a field that its model has not is
refused, as the real server refuses it, and what is answered is what the SDK's own model serialises to. Uploads are
parsed by KFP's own loader.
"""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import kfp_server_api as api
from google.protobuf import json_format
from kfp.components import load_component_from_text

PREFIX = "/apis/v2beta1"
OPERATIONS = {1: "EQUALS"}
"""The only one there is here, by its number in filter.proto, which the SDK sends."""
START = datetime(2030, 1, 1, tzinfo=UTC)


class Refused(Exception):
    """What the server answers with an error."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class KfpServer:
    """The server's state, and what tests change in it.

    token: what it asks for. multi_user: whether lists must name a namespace. failing: answered to everything.
    login: answered to everything as a page. requests: method and path of each that came.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, api.V2beta1Pipeline] = {}
        self.versions: dict[str, api.V2beta1PipelineVersion] = {}
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring_runs: dict[str, api.V2beta1RecurringRun] = {}
        self.token: str | None = None
        self.multi_user = False
        self.failing: HTTPStatus | None = None
        self.login = False
        self.page_size = 20
        self.requests: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self._models = api.ApiClient()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": self}))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def now(self) -> datetime:
        """A second later than whatever was made before."""
        made = (self.pipelines, self.versions, self.experiments, self.runs, self.recurring_runs)
        return START + timedelta(seconds=sum(map(len, made)))

    def read(self, body: bytes, model: str) -> Any:
        """A request's body as a model.

        Raises:
            Refused: it has a field that the model has not, or a value that is none of an enumeration's.
        """
        try:
            found = self._models.deserialize(SimpleNamespace(data=body), model)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        if _plain(self._models.sanitize_for_serialization(found)) != _plain(json.loads(body)):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{model} has not all fields of {body.decode()}")
        _require_known_words(found)
        return found

    def write(self, model: Any) -> bytes:
        """A model as an answer's body, which the same model reads; None is an empty one."""
        if model is None:
            return b"{}"
        body = json.dumps(self._models.sanitize_for_serialization(model)).encode()
        self.read(body, type(model).__name__)
        return body

    def listed(self, kind: dict[str, Any], answer: type, field: str, query: dict[str, str], **having: str) -> Any:
        """A page of what there is of a kind, filtered and sorted as the query says."""
        wanted = having | self._filter(query.get("filter", ""))
        items = [item for item in kind.values() if all(getattr(item, key) == value for key, value in wanted.items())]
        if query.get("sort_by"):
            key, _, order = query["sort_by"].partition(" ")
            items.sort(key=lambda item: getattr(item, key), reverse=order == "desc")
        start, size = int(query.get("page_token") or 0), int(query.get("page_size") or self.page_size)
        more = str(start + size) if len(items) > start + size else None
        return answer(**{field: items[start : start + size] or None, "next_page_token": more, "total_size": len(items)})

    def _filter(self, text: str) -> dict[str, str]:
        """A filter's keys and values; protobuf takes names in either case, and enumerations by number too."""
        predicates = json.loads(text)["predicates"] if text else []
        named = [{re.sub(r"([A-Z])", r"_\1", name).lower(): value for name, value in p.items()} for p in predicates]
        known = [{**p, "operation": OPERATIONS.get(p["operation"], p["operation"])} for p in named]
        read = self.read(json.dumps({"predicates": known}).encode(), "V2beta1Filter")
        if {p.operation for p in read.predicates} - {*OPERATIONS.values()}:
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, f"the filter {text} has another operation")
        return {p.key: p.string_value for p in read.predicates}


class Handler(BaseHTTPRequestHandler):
    """Takes requests to the functions of ROUTES."""

    state: KfpServer

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        self.state.requests.append((self.command, address.path.removeprefix(PREFIX)))
        self.state.queries.append(dict(parse_qsl(address.query)))
        if self.state.login:
            self._send(HTTPStatus.OK, b"<html>Log in</html>", "text/html")
            return
        try:
            self._send(HTTPStatus.OK, self.state.write(self._found(body)))
        except Refused as refused:
            status = api.GoogleRpcStatus(code=3, message=str(refused))
            self._send(refused.status, self.state.write(status))

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (http.server looks for these names)

    def _found(self, body: bytes) -> Any:
        method, path = self.state.requests[-1]
        if self.state.failing:
            raise Refused(self.state.failing, "the database is away")
        if self.state.token and self.headers.get("Authorization") != f"Bearer {self.state.token}":
            raise Refused(HTTPStatus.UNAUTHORIZED, "Request header error: there is no user identity header")
        if path.startswith("/pipelines/upload"):
            part = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body
            (file,) = message_from_bytes(part).get_payload()
            body = file.get_payload(decode=True)
        for (verb, pattern), answer in ROUTES.items():
            if verb == method and (match := re.fullmatch(pattern, path)):
                return answer(self.state, self.state.queries[-1], body, *match.groups())
        raise Refused(HTTPStatus.NOT_FOUND, f"{method} {path} is no method of the API")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _plain(value: Any) -> Any:
    """JSON in which a number and its text are the same, as they are to protobuf."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value)


def _require_known_words(model: Any) -> None:
    """The SDK takes any text for an enumeration's; the real server does not."""
    for name, kind in model.openapi_types.items():
        value, form = getattr(model, name), getattr(api, kind, None)
        words = getattr(form, "allowable_values", None)
        if value is not None and words and value not in words:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{value} is no {kind}")
        if isinstance(form, type) and isinstance(value, form):
            _require_known_words(value)


def _health(state: KfpServer, *_: Any) -> api.V2beta1GetHealthzResponse:
    return api.V2beta1GetHealthzResponse(multi_user=state.multi_user)


def _in_namespace(state: KfpServer, query: dict[str, str]) -> dict[str, str]:
    """Where to look: several users see what is in a namespace; one user must name none."""
    namespace = query.get("namespace")
    if state.multi_user and not namespace:
        raise Refused(HTTPStatus.BAD_REQUEST, "Invalid input error: a namespace is needed in multi-user mode")
    if namespace and not state.multi_user:
        raise Refused(HTTPStatus.BAD_REQUEST, "Invalid input error: single-user mode cannot filter by namespace")
    return {"namespace": namespace} if namespace else {}


def _create_pipeline(state: KfpServer, _: Any, body: bytes) -> api.V2beta1Pipeline:
    made = state.read(body, "V2beta1Pipeline")
    if not made.name or made.name in [each.name for each in state.pipelines.values()]:
        raise Refused(HTTPStatus.CONFLICT, f"Already exist error: the name {made.name} is taken")
    made.pipeline_id, made.created_at = str(uuid4()), state.now()
    return state.pipelines.setdefault(made.pipeline_id, made)


def _list_pipelines(state: KfpServer, query: dict[str, str], _: bytes) -> api.V2beta1ListPipelinesResponse:
    where = _in_namespace(state, query)
    return state.listed(state.pipelines, api.V2beta1ListPipelinesResponse, "pipelines", query, **where)


def _upload_version(state: KfpServer, query: dict[str, str], body: bytes) -> api.V2beta1PipelineVersion:
    loaded = load_component_from_text(body.decode())
    parts = {"pipeline_spec": loaded.pipeline_spec, "platform_spec": loaded.platform_spec}
    made = api.V2beta1PipelineVersion(
        pipeline_id=_there(state.pipelines, query["pipelineid"]).pipeline_id,
        pipeline_version_id=str(uuid4()),
        name=query["name"],
        display_name=query["name"],
        created_at=state.now(),
        pipeline_spec={name: json_format.MessageToDict(part) for name, part in parts.items()},
    )
    if made.name in [each.name for each in state.versions.values() if each.pipeline_id == made.pipeline_id]:
        raise Refused(HTTPStatus.CONFLICT, f"Already exist error: the version {made.name} is there")
    return state.versions.setdefault(made.pipeline_version_id, made)


def _list_versions(state: KfpServer, query: dict[str, str], _: bytes, pipeline: str) -> Any:
    answer = api.V2beta1ListPipelineVersionsResponse
    return state.listed(state.versions, answer, "pipeline_versions", query, pipeline_id=pipeline)


def _create_experiment(state: KfpServer, _: Any, body: bytes) -> api.V2beta1Experiment:
    made = state.read(body, "V2beta1Experiment")
    made.experiment_id, made.created_at = str(uuid4()), state.now()
    return state.experiments.setdefault(made.experiment_id, made)


def _list_experiments(state: KfpServer, query: dict[str, str], _: bytes) -> api.V2beta1ListExperimentsResponse:
    where = _in_namespace(state, query)
    return state.listed(state.experiments, api.V2beta1ListExperimentsResponse, "experiments", query, **where)


def _create_run(state: KfpServer, _: Any, body: bytes) -> api.V2beta1Run:
    made = state.read(body, "V2beta1Run")
    _require_parts(state, made)
    made.run_id, made.created_at, made.state = str(uuid4()), state.now(), api.V2beta1RuntimeState.PENDING
    return state.runs.setdefault(made.run_id, made)


def _list_runs(state: KfpServer, query: dict[str, str], _: bytes) -> api.V2beta1ListRunsResponse:
    experiment = _there(state.experiments, query["experiment_id"]).experiment_id
    return state.listed(state.runs, api.V2beta1ListRunsResponse, "runs", query, experiment_id=experiment)


def _create_recurring_run(state: KfpServer, _: Any, body: bytes) -> api.V2beta1RecurringRun:
    made = state.read(body, "V2beta1RecurringRun")
    _require_parts(state, made)
    if not 1 <= int(made.max_concurrency) <= 10:
        raise Refused(HTTPStatus.BAD_REQUEST, "Invalid input error: max concurrency must be at least 1 and at most 10")
    made.recurring_run_id, made.created_at = str(uuid4()), state.now()
    made.status = api.V2beta1RecurringRunStatus.ENABLED
    made.namespace = state.experiments[made.experiment_id].namespace
    return state.recurring_runs.setdefault(made.recurring_run_id, made)


def _list_recurring_runs(state: KfpServer, query: dict[str, str], _: bytes) -> api.V2beta1ListRecurringRunsResponse:
    where = _in_namespace(state, query)
    return state.listed(state.recurring_runs, api.V2beta1ListRecurringRunsResponse, "recurring_runs", query, **where)


def _delete_recurring_run(state: KfpServer, _: Any, __: bytes, run: str) -> None:
    _there(state.recurring_runs, run)
    del state.recurring_runs[run]


def _require_parts(state: KfpServer, made: api.V2beta1Run | api.V2beta1RecurringRun) -> None:
    """A run's version and experiment must be there."""
    _there(state.experiments, made.experiment_id)
    version = _there(state.versions, made.pipeline_version_reference.pipeline_version_id)
    if version.pipeline_id != made.pipeline_version_reference.pipeline_id:
        raise Refused(HTTPStatus.BAD_REQUEST, "Invalid input error: the version is another pipeline's")


def _there(kind: dict[str, Any], identity: str) -> Any:
    if identity not in kind:
        raise Refused(HTTPStatus.NOT_FOUND, f"{identity} not found")
    return kind[identity]


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/healthz"): _health,
    ("POST", "/pipelines"): _create_pipeline,
    ("GET", "/pipelines"): _list_pipelines,
    ("POST", "/pipelines/upload_version"): _upload_version,
    ("GET", "/pipelines/([^/]+)/versions"): _list_versions,
    ("POST", "/experiments"): _create_experiment,
    ("GET", "/experiments"): _list_experiments,
    ("POST", "/runs"): _create_run,
    ("GET", "/runs"): _list_runs,
    ("POST", "/recurringruns"): _create_recurring_run,
    ("GET", "/recurringruns"): _list_recurring_runs,
    ("DELETE", "/recurringruns/([^/]+)"): _delete_recurring_run,
}
