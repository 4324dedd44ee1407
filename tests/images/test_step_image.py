"""What the step image holds, and as whom it works. Built by `make image`."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from docker.models.images import Image

import unsee

pytestmark = pytest.mark.image
TOOLS = ("gcc", "cc", "g++", "c++", "clang", "as", "ld", "make", "pip")
INSTALLED = """
import json, re; from importlib import metadata
print(json.dumps({re.sub("[-_.]+", "-", one.name).lower(): one.version for one in metadata.distributions()}))
"""
GIGABYTES = 2.5


@pytest.fixture(scope="module")
def installed(inside: Callable[..., str]) -> dict[str, str]:
    """Distribution -> version."""
    return json.loads(inside("-c", INSTALLED, entrypoint="python3"))


def test_the_image_is_the_command_line(inside: Callable[..., str]) -> None:
    assert inside("--help") == inside()
    assert {"run", "compare", "pipeline"} <= set(inside("--help").split())


def test_it_says_what_it_is(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == ("unsee", unsee.__version__, "Apache-2.0")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert labels["base.name"]


def test_nobody_asks_a_step_for_its_health(image: Image) -> None:
    assert image.attrs["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_it_works_as_its_own_user_and_as_anybody_else(inside: Callable[..., str]) -> None:
    identity = "import getpass, os; print(os.getuid(), os.getgid(), getpass.getuser())"
    assert inside("-c", identity, entrypoint="python3") == "10001 10001 unsee\n"
    assert inside("-c", identity, entrypoint="python3", user="1234:1234") == "1234 1234 unsee\n"


def test_it_writes_in_tmp_alone(inside: Callable[..., str]) -> None:
    assert "questions" in inside("benchmark", "generate", "--out", "/tmp/benchmark")
    writable = inside("-c", "find / -xdev -writable -not -path '/proc/*' -not -type l | sort -u", entrypoint="sh")
    assert {path for path in writable.splitlines() if not path.startswith(("/dev/", "/tmp"))} <= {"/dev"}


@pytest.mark.parametrize("tool", TOOLS)
def test_no_compiler_is_left(inside: Callable[..., str], tool: str) -> None:
    assert inside("-c", f"command -v {tool} || echo none", entrypoint="sh") == "none\n"


def test_versions_are_the_pinned_ones(installed: dict[str, str]) -> None:
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    ours = {name: version.partition("+")[0] for name, version in installed.items() if name != "unsee"}
    assert ours == {name: pinned[name] for name in ours}
    assert {"torch", "transformers", "kfp", "kfp-kubernetes", "mlflow", "boto3"} <= ours.keys()


def test_the_bill_of_materials_lists_what_is_installed(
    engine: docker.DockerClient, image: Image, installed: dict[str, str]
) -> None:
    path = dict(line.split("=", 1) for line in image.attrs["Config"]["Env"])["UNSEE_SBOM"]
    container = engine.containers.create(image)
    try:  # copied out, since an engine's log may lose the end of what is long
        copied = b"".join(container.get_archive(path)[0])
    finally:
        container.remove()
    with tarfile.open(fileobj=io.BytesIO(copied)) as archive:
        bill = json.load(archive.extractfile(Path(path).name))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {re.sub("[-_.]+", "-", one["name"]).lower(): one["version"] for one in bill["components"]}
    assert listed == installed


def test_pipelines_are_compiled_in_it_and_the_client_of_kfp_is_there(inside: Callable[..., str]) -> None:
    assert "/tmp/out/unlearn.yaml" in inside("pipeline", "compile", "--out", "/tmp/out")
    assert inside("-c", "from kfp import Client; print(Client.upload_pipeline.__name__)", entrypoint="python3")


def test_it_is_no_larger_than_it_was(image: Image) -> None:
    assert image.attrs["Size"] < GIGABYTES * 1e9
