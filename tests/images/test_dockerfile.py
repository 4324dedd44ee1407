"""The step image's Dockerfile by Docker's own parser, and its context as Docker reads .dockerignore."""

from pathlib import Path

import dockerfile
import pytest
from docker.utils.build import exclude_paths

from unsee_pipelines.containers import USER

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stages() -> list[list[dockerfile.Command]]:
    """Instructions of each stage, its FROM first."""
    commands = dockerfile.parse_file(str(ROOT / "images" / "step" / "Dockerfile"))
    starts = [number for number, command in enumerate(commands) if command.cmd == "FROM"]
    return [list(commands[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def values(stage: list[dockerfile.Command], instruction: str) -> list[tuple[str, ...]]:
    return [command.value for command in stage if command.cmd == instruction]


def test_every_stage_starts_from_the_base_that_was_asked_for(stages):
    assert {values(stage, "FROM")[0][0] for stage in stages} == {"${BASE}"}


def test_nothing_but_the_environment_is_taken_from_the_build(stages):
    assert {instruction for instruction in ("RUN", "ADD") if values(stages[-1], instruction)} == set()
    (copy,) = [command for command in stages[-1] if command.cmd == "COPY"]
    assert (copy.flags, copy.value) == (("--from=build",), ("/opt/unsee", "/opt/unsee"))


def test_the_user_is_a_number_other_than_root_as_kubernetes_demands(stages):
    assert values(stages[-1], "USER") == [(f"{USER}:{USER}",)]


def test_a_mirror_s_password_stays_out_of_the_image(stages):
    runs = [command for stage in stages for command in stage if command.cmd == "RUN"]
    assert runs
    assert all("--mount=type=secret,id=pip,target=/etc/pip.conf" in run.flags for run in runs)


def test_only_what_is_installed_is_sent_to_the_engine(tmp_path):
    wanted = {
        "components/prune/component.py", "constraints.txt", "LICENSE", "pipelines/compiled/unlearn.yaml",
        "pyproject.toml", "README.md", "setup.py", "src/unsee/mllm/base/model.safetensors",
    }  # fmt: skip
    unwanted = {
        ".git/config", ".venv/pyvenv.cfg", "runs/.unsee/artifacts/photo.png", "runs/stack/stack.env",
        "src/unsee.egg-info/PKG-INFO", "src/unsee/__pycache__/cli.pyc", "tests/conftest.py",
    }  # fmt: skip
    for name in wanted | unwanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sent = exclude_paths(str(tmp_path), (ROOT / ".dockerignore").read_text().splitlines())
    assert {name for name in sent if (tmp_path / name).is_file()} == wanted
