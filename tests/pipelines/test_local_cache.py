"""After a failure, cached results that are damaged are forgotten, and only those."""

import json

import pytest

from unsee.storage import artifact
from unsee_pipelines.cache import drop_damaged


@pytest.fixture
def cache(tmp_path):
    """A cache with one entry that refers to a whole artifact and to a metrics file."""
    with artifact.create(tmp_path / "model", "model", {}) as directory:
        (directory / "weights").write_text("weights")
    (tmp_path / "metrics").write_text("{}")
    (tmp_path / "cache").mkdir()
    outputs = {name: {"uri": str(tmp_path / name)} for name in ("model", "metrics")}
    (tmp_path / "cache" / "key.json").write_text(json.dumps({**outputs, "section": "{}"}))
    return tmp_path / "cache"


def test_whole_artifacts_stay_cached(cache):
    drop_damaged(cache)
    assert (cache / "key.json").exists()


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("other")])
@pytest.mark.parametrize("name", ["weights", "manifest.json"])
def test_damaged_artifacts_are_made_anew(cache, name, damage):
    damage(cache.parent / "model" / name)
    drop_damaged(cache)
    assert not (cache / "key.json").exists()
