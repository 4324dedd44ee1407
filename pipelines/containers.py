"""Steps in containers of the step image, by KFP's DockerRunner: the real image against real servers, without a cluster.

A container has no privileges and a read-only file system: it writes in the run's directories, which have the same
paths inside, and in its own /tmp. Of the environment it gets VARIABLES.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import Mount
from kfp import local

from unsee.errors import UserError
from unsee.image import REFERENCE
from unsee.steps.component import STOPPED
from unsee.storage.artifact import digest_of
from unsee_components import IMAGE
from unsee_pipelines.runners import SECONDS_TO_STOP

USER = 10001
LABEL = "unsee.run"
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
    "MLFLOW_RUN_ID",
    "UNSEE_STORE",
    "UNSEE_CHECKPOINTS",
    "UNSEE_CHECKPOINT_SECONDS",
    "UNSEE_PROCESSES",
)


class Containers:
    """They share this machine's network, and so reach servers on its loopback interface.

    They run as whoever starts the run, to whom their files then belong; root's run as the image's user.

    Raises:
        UserError: there is no engine, no image, or no tracking server that containers reach.
    """

    def __init__(self) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri.startswith(("http://", "https://")):
            raise UserError(
                f"MLFLOW_TRACKING_URI {uri!r} is no server, which --runner docker needs; use --stack or "
                "set it, or use --runner process"
            )
        try:
            self._engine = docker.from_env()
            self._image = self._engine.images.get(IMAGE)
        except ImageNotFound:
            raise UserError(f"image {IMAGE} is not on this machine; make image builds it") from None
        except DockerException as error:
            where = os.environ.get("DOCKER_HOST", "its usual socket")
            raise UserError(
                f"no Docker engine answers at {where} ({error}); start one, or use --runner process"
            ) from None
        self._run = uuid.uuid4().hex
        self._environment: dict[str, str] = {}

    def code_digest(self, digest: str) -> str:
        """What is in the image runs, not what is here."""
        return digest_of([digest, self._image.id])

    @contextmanager
    def of_kfp(self, root: Path, writes: Sequence[Path], reads: Sequence[Path]) -> Iterator[local.DockerRunner]:
        """The environment is handed to the engine, never written into the pipeline."""
        if relative := [path for path in reads if not path.is_absolute()]:
            raise UserError(f"containers need {relative[0]} by its whole path; write {relative[0].resolve()}")
        self._environment |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._environment[REFERENCE] = next(iter(self._image.attrs["RepoDigests"]), self._image.id)
        yield local.DockerRunner(
            entrypoint="",
            environment=self._environment,
            labels={LABEL: self._run},
            user=_owner(root, *writes),
            mounts=[*map(_mount, writes), *(_mount(path, read_only=True) for path in (root.parent, *reads))],
            read_only=True,
            tmpfs={"/tmp": ""},
            network_mode="host",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )

    def skip(self, reason: str) -> None:
        """KFP hands the same dictionary to every container."""
        self._environment[STOPPED] = reason

    def stop(self) -> None:
        """A container's first process is KFP's shell, which passes no signal on to the step."""
        for container in self._engine.containers.list(filters={"label": f"{LABEL}={self._run}"}):
            with suppress(APIError):  # it has ended by itself
                container.exec_run(["sh", "-c", "kill -TERM -1"])
                container.stop(timeout=SECONDS_TO_STOP)

    def peak_memory(self) -> None:
        """Containers are gone with what the engine knew of them."""


def _mount(path: Path, read_only: bool = False) -> Mount:
    return Mount(str(path), str(path), "bind", read_only=read_only)


def _owner(*directories: Path) -> str:
    """Whose the directories are, made so if need be."""
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    for directory in directories:
        os.chown(directory, USER, USER)
    return f"{USER}:{USER}"
