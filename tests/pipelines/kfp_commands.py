"""`unsee pipeline …` in this process, and what it left on the server of kfp_server.py."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from kfp_server import KfpServer

from unsee import cli

NIGHTLY = "0 30 2 * * *"
IMAGE = "registry.example/unsee@sha256:" + "0" * 64


@dataclass(frozen=True)
class Left:
    """How a command ended."""

    code: int
    out: str
    err: str


Pipeline = Callable[..., Left]


def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pipeline:
    """What runs `unsee pipeline …`."""

    def run(*arguments: str) -> Left:
        monkeypatch.setattr(sys, "argv", ["unsee", "pipeline", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Left(left.value.code, out, err)

    return run


def only(kind: dict) -> object:
    """The one thing of a kind that is on the server."""
    (item,) = kind.values()
    return item


def written(server: KfpServer) -> list[tuple[str, str]]:
    """The requests that changed something."""
    return [request for request in server.requests if request[0] != "GET"]
