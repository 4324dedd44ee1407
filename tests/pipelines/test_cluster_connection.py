"""`unsee pipeline …` and the server: no answer, tokens, logins, namespaces, and errors in one sentence."""

import socket
from http import HTTPStatus
from pathlib import Path

import kfp
import pytest
import requests
from kfp_commands import NIGHTLY, Pipeline, only
from kfp_server import PREFIX, KfpServer


def test_a_host_that_does_not_answer_is_told(pipeline: Pipeline) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"
        left = pipeline("status", "--host", host)
    assert left.code == 2
    assert f"--host {host} does not answer" in left.err
    assert "Connection refused" in left.err
    assert len(left.err.splitlines()) == 1


def test_an_address_is_needed(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSEE_KFP_HOST")
    assert "--host '' is no address; write e.g. --host http://" in pipeline("status").err
    assert "--host 'localhost:8888' is no address" in pipeline("status", "--host", "localhost:8888").err


def test_the_token_of_a_file_is_shown(server, pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "right"
    (tmp_path / "token").write_text("right\n")
    assert pipeline("status", "--token-file", str(tmp_path / "token")).code == 0
    monkeypatch.setenv("UNSEE_KFP_TOKEN_FILE", str(tmp_path / "token"))
    assert pipeline("status").code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("wrong", "refuses (401: Request header error: there is no user identity header); the token in --token-file"),
        (None, "cannot be read (No such file or directory)"),
        ("", "holds 0 words instead of a token"),
        ("two words", "holds 2 words instead of a token"),
    ],
)
def test_a_token_that_is_none_is_told_and_kept_secret(server, pipeline, tmp_path: Path, content, told) -> None:
    server.token, file = "right", tmp_path / "token"
    if content is not None:
        file.write_text(content)
    left = pipeline("status", "--token-file", str(file))
    assert left.code == 2
    assert told in left.err
    assert not content or content not in left.out + left.err


def test_a_missing_token_is_told(server: KfpServer, pipeline: Pipeline) -> None:
    server.token = "right"
    left = pipeline("status")
    assert left.code == 2
    assert "refuses (401: Request header error: there is no user identity header); give one by --token-file" in left.err
    assert len(server.requests) == 1


def test_a_login_page_is_not_taken_for_an_empty_server(server: KfpServer, pipeline: Pipeline) -> None:
    server.login = True
    left = pipeline("status")
    assert left.code == 2
    assert "answers with a web page, not as Kubeflow Pipelines; give a token by --token-file" in left.err


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (HTTPStatus.INTERNAL_SERVER_ERROR, 1, "failed (500: the database is away)"),
        (HTTPStatus.FORBIDDEN, 2, "refuses (403: the database is away)"),
        (HTTPStatus.NOT_FOUND, 2, "refuses what was asked (404: the database is away)"),
    ],
)
def test_an_error_of_the_server_is_one_sentence(server, pipeline, status, code: int, told: str) -> None:
    server.failing = status
    left = pipeline("status")
    assert left.code == code
    assert f"{server.host} {told}" in left.err
    assert len(left.err.splitlines()) == 1


def test_with_several_users_everything_is_in_the_namespace(server: KfpServer, pipeline: Pipeline) -> None:
    server.multi_user = True
    for arguments in (("upload", "unlearn"), ("submit", "unlearn"), ("schedule", "unlearn", "--cron", NIGHTLY)):
        assert pipeline(*arguments, "--namespace", "team").code == 0
    assert {p.namespace for p in (*server.pipelines.values(), *server.experiments.values())} == {"team"}
    assert NIGHTLY in pipeline("status", "--namespace", "team").out
    assert "no pipeline is uploaded" in pipeline("status", "--namespace", "others").out
    assert "a namespace is needed in multi-user mode" in pipeline("status").err


def test_in_a_pod_its_namespace_is_taken_and_nothing_is_written_to_the_home_directory(
    server: KfpServer, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.multi_user = True
    (tmp_path / "namespace").write_text("team")
    monkeypatch.setattr(kfp.Client, "_NAMESPACE_PATH", str(tmp_path / "namespace"))
    assert pipeline("upload", "unlearn").code == 0
    assert only(server.pipelines).namespace == "team"
    assert not (tmp_path / "home").exists()


def test_a_server_for_one_user_is_told_no_namespace(server: KfpServer, pipeline: Pipeline) -> None:
    assert pipeline("upload", "unlearn", "--namespace", "team").code == 0
    assert pipeline("submit", "unlearn", "--namespace", "team").code == 0
    assert pipeline("status", "--namespace", "team").code == 0


def test_the_server_of_these_tests_refuses_what_the_api_does_not_know(server: KfpServer) -> None:
    answer = requests.post(f"{server.host}{PREFIX}/experiments", json={"display_name": "a", "colour": "red"}, timeout=9)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "V2beta1Experiment has not all fields" in answer.json()["message"]
    answer = requests.post(f"{server.host}{PREFIX}/recurringruns", json={"mode": "SOMETIMES"}, timeout=9)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert answer.json()["message"] == "SOMETIMES is no RecurringRunMode"
