"""What the chart does with what a cluster has already: helm asks an API server that holds these objects."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml
from rendered import CHART, NAMESPACE, Helm, Object

KINDS = {
    "v1": ["ConfigMap", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}


def plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


def discovery() -> dict[str, Object]:
    """By path, what a server answers that is asked what it serves."""
    found: dict[str, Object] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    groups = []
    for version, kinds in KINDS.items():
        resources = [{"name": plural(kind), "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in kinds]
        prefix = "/apis" if "/" in version else "/api"
        found[f"{prefix}/{version}"] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if "/" in version:
            name, each = version.partition("/")[0], {"groupVersion": version, "version": "v1"}
            groups.append({"name": name, "versions": [each], "preferredVersion": each})
    return {**found, "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}}


@contextmanager
def cluster(objects: list[Object]) -> Iterator[str]:
    """The address of an API server with these objects."""
    known = discovery()
    for each in objects:
        where = each["metadata"]
        known[f"/api/v1/namespaces/{where['namespace']}/{plural(each['kind'])}/{where['name']}"] = each

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(found or missing).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing is to be said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def upgrade(helm: Helm) -> Callable[..., str]:
    """upgrade(objects, "key=value", …): what helm would apply to a cluster that has these objects, or its message."""

    def run(objects: list[Object], *settings: str) -> str:
        values = [f"--set={setting}" for setting in ("pipelineNamespaces={team-a}", *settings)]
        with cluster(objects) as address:
            where = [
                "--namespace",
                NAMESPACE,
                "--dry-run=server",
                "--disable-openapi-validation",
                "--kube-apiserver",
                address,
            ]
            done = helm("template", "unsee", CHART, *where, *values)
        return done.stdout or done.stderr

    return run


def of_helm(each: Object, release: str = "unsee") -> Object:
    """An object as helm leaves it in a cluster."""
    where = each["metadata"]
    owner = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": NAMESPACE}
    labels = {**where.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"}
    return {**each, "metadata": {**where, "labels": labels, "annotations": {**where.get("annotations", {}), **owner}}}


def secrets(rendered: str) -> dict[tuple[str, str], Object]:
    found = [each for each in yaml.safe_load_all(rendered) if each and each["kind"] == "Secret"]
    return {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in found}


def test_an_upgrade_keeps_the_credentials_and_gives_them_to_new_namespaces(upgrade):
    first = secrets(upgrade([]))
    assert first.keys() == {(space, name) for space in (NAMESPACE, "team-a") for name in ("unsee-s3", "unsee-mlflow")}
    second = secrets(upgrade([of_helm(each) for each in first.values()], "pipelineNamespaces={team-a,team-b}"))
    assert {where: second[where]["data"] for where in first} == {where: each["data"] for where, each in first.items()}
    for name in ("unsee-s3", "unsee-mlflow"):
        assert second["team-b", name]["data"] == first["team-a", name]["data"]


def test_what_is_missing_in_a_kept_secret_is_generated_and_the_rest_stays(upgrade):
    [kept] = [each for where, each in secrets(upgrade([])).items() if where == (NAMESPACE, "unsee-mlflow")]
    password = kept["data"]["MLFLOW_TRACKING_PASSWORD"]
    del kept["data"]["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    made = secrets(upgrade([of_helm(kept)]))[NAMESPACE, "unsee-mlflow"]["data"]
    assert made["MLFLOW_TRACKING_PASSWORD"] == password
    assert made["MLFLOW_FLASK_SERVER_SECRET_KEY"]


@pytest.mark.parametrize("release", [None, "another", "unsee"])
def test_a_launcher_config_of_somebody_else_is_left_alone(upgrade, release):
    where = {"name": "kfp-launcher", "namespace": "team-a"}
    launcher = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": {"defaultPipelineRoot": ""}}
    said = upgrade([of_helm(launcher, release) if release else launcher], "kfp.createLauncherConfig=true")
    if release == "unsee":
        assert "name: kfp-launcher" in said
    else:
        assert "ConfigMap kfp-launcher in namespace team-a is not this release's: delete it" in said
        without = upgrade([launcher])
        assert "kind: Deployment" in without
        assert "kfp-launcher" not in without
