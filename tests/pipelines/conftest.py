"""A KFP server for the tests of the commands that talk to one."""

from collections.abc import Iterator
from pathlib import Path

import kfp
import pytest
from kfp_commands import Pipeline, commands
from kfp_server import KfpServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "home/kfp/context.json"))
    server = KfpServer()
    monkeypatch.setenv("UNSEE_KFP_HOST", server.host)
    yield server
    server.close()


@pytest.fixture
def pipeline(server: KfpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pipeline:
    """Run `unsee pipeline …` in this process."""
    return commands(monkeypatch, capsys)


@pytest.fixture
def uploaded(server: KfpServer, pipeline: Pipeline) -> KfpServer:
    """With pipeline unlearn on it."""
    assert pipeline("upload", "unlearn").code == 0
    return server
