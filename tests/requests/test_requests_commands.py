"""`unsee requests` on a real store: what a person who looks after it says and is told."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from unsee.cli import app
from unsee.errors import UserError
from unsee.requests import turn


@pytest.fixture
def said(root, monkeypatch):
    """said(argument, …): what a command prints."""
    monkeypatch.setenv("UNSEE_STORE", root)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["requests", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_of_a_photograph_only_its_sha256_is_kept(said, root, tmp_path):
    photograph = tmp_path / "ada-moss.jpg"
    photograph.write_bytes(b"a photograph")
    said("add", "--id", "one", "--image", str(photograph))
    shown = json.loads(said("show", "one"))
    assert shown["images"] == [hashlib.sha256(b"a photograph").hexdigest()]
    assert "ada-moss" not in json.dumps(shown)


def test_a_run_that_was_deleted_is_released_and_its_requests_are_open_again(said, root, ask):
    ask(root, "one")
    turn.claim(root, "deleted")
    assert said("list").split("\t")[1] == "claimed by run deleted"
    with pytest.raises(UserError, match="it is not the turn of run another; unsee requests list shows whose it is"):
        said("release", "another")
    said("release", "deleted")
    assert said("list").split("\t")[1] == "open"
    assert said("verify").startswith("2 records, unbroken, the last with sha256 ")
