"""The code digest changes with everything that could change a result."""

import shutil
from importlib import metadata
from pathlib import Path

import pytest

import unsee
import unsee_pipelines.code
from unsee_pipelines.code import LIBRARIES, code_digest


def test_it_is_stable():
    assert code_digest() == code_digest()


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_version_of_a_library_changes_it(library, monkeypatch):
    before = code_digest()
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.0" if name == library else real(name))
    assert code_digest() != before


def test_a_changed_source_file_changes_it(tmp_path, monkeypatch):
    package = tmp_path / "unsee"
    shutil.copytree(Path(unsee.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(unsee_pipelines.code.unsee, "__file__", str(package / "__init__.py"))
    before = code_digest()
    (package / "settings.py").write_text("# changed")
    assert code_digest() != before
