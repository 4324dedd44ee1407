"""The code digest changes with everything that could change a result."""

import shutil
from importlib import metadata
from pathlib import Path

import pytest

import unsee.code
from unsee.code import LIBRARIES, code_digest, directory_digest


def test_it_is_stable():
    assert code_digest() == code_digest()


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_version_of_a_library_changes_it(library, monkeypatch):
    before = code_digest()
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if name == library else real(name))
    assert code_digest() != before


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, in place of the installed one."""
    copy = tmp_path / ".venv" / "unsee"
    shutil.copytree(Path(unsee.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.setattr(unsee, "__file__", str(copy / "__init__.py"))
    return copy


def test_a_changed_source_file_changes_it(package):
    before = code_digest()
    (package / "settings.py").write_text("# changed")
    assert code_digest() != before


@pytest.mark.parametrize("stray", [".mypy_cache/3.11/cache.json", "__pycache__/cli.pyc", "mllm/.DS_Store"])
def test_what_tools_leave_behind_does_not_change_it(package, stray):
    before = directory_digest(package)
    (package / stray).parent.mkdir(parents=True, exist_ok=True)
    (package / stray).write_text("stray")
    assert directory_digest(package) == before
