"""The real step image in a real engine, and real servers for what runs in it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from unsee.stack import Stack
from unsee_components import IMAGE

sys.path.append(str(Path(__file__).parents[1] / "pipelines"))  # reduced.py


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> docker.models.images.Image:
    return engine.images.get(IMAGE)


@pytest.fixture(scope="session")
def inside(engine: docker.DockerClient) -> Callable[..., str]:
    """inside(command…): what it prints in a container as a cluster runs it, without a network."""

    def run(*command: str, **options: str) -> str:
        hardened = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "network_mode": "none"}
        return engine.containers.run(IMAGE, list(command), remove=True, **hardened, **options).decode()

    return run


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """S3 and MLflow, by the environment that reaches them."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.up()
    yield stack.environment()
    stack.down()
