"""A connection that breaks is tried again; what stays broken is one sentence, and never half an object."""

import subprocess
import sys

import pytest
from made_artifacts import make

from unsee.errors import UserError
from unsee.explain import explain
from unsee.storage import s3 as s3_module
from unsee.storage.artifact import MANIFEST
from unsee.storage.store import Failed, open_store
from unsee.storage.transfer import download, upload

MEGABYTE = 1 << 20
PASSING = {
    "500s": {"do": 500},
    "503s": {"do": 503, "code": "SlowDown"},
    "resets": {"do": "reset"},
    "truncated bodies": {"do": "truncate", "bytes": MEGABYTE},
    "stalled bodies": {"do": "stall", "bytes": MEGABYTE, "seconds": 3},
    "changed bytes": {"do": "corrupt_response"},
}


@pytest.fixture(autouse=True)
def impatient(request, monkeypatch):
    """A machine that has much else to do may take a second to answer: that is a fault only where it is meant."""
    monkeypatch.setattr(s3_module, "ATTEMPTS", 3)
    if "stalled" in request.node.name:
        monkeypatch.setattr(s3_module, "SECONDS_WITHOUT_A_BYTE", 1)


def assert_one_sentence(error):
    sentence = explain(error).sentence
    assert len(sentence.splitlines()) == 1
    assert "s3://unsee/" in sentence
    return sentence


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_download_survives_what_passes(fault, s3, model, tmp_path, inject):
    uri = upload(model, "model", s3)
    inject({"method": "GET", "path": "weights", "times": 2, **fault})
    download(uri, tmp_path / "back", "model")
    assert (tmp_path / "back/deep/weights.bin").read_bytes() == (model / "deep/weights.bin").read_bytes()
    assert (tmp_path / "faults.json-0-1").exists()


@pytest.mark.parametrize("name", ["500s", "503s", "resets"])
def test_an_upload_survives_what_passes(name, s3, model, tmp_path, inject):
    inject(*({"method": method, "times": 2, **PASSING[name]} for method in ("PUT", "POST")))
    uri = upload(model, "model", s3)
    inject()
    download(uri, tmp_path / "back", "model")
    assert (tmp_path / "back/deep/weights.bin").read_bytes() == (model / "deep/weights.bin").read_bytes()


def test_bytes_that_changed_on_the_way_to_the_store_do_not_become_an_artifact(s3, model, inject):
    inject({"method": "PUT", "path": "partNumber", "times": 99, "do": "corrupt_request"})
    with pytest.raises(Failed, match="BadDigest") as error:
        upload(model, "model", s3)
    assert_one_sentence(error.value)
    assert not [name for name in open_store(s3).sizes() if name.endswith(("weights.bin", MANIFEST))]


@pytest.mark.parametrize("name", ["500s", "resets", "truncated bodies", "stalled bodies"])
def test_a_download_that_keeps_failing_is_told_and_leaves_no_artifact(name, s3, model, tmp_path, inject):
    uri = upload(model, "model", s3)
    inject({"method": "GET", "path": "weights", "times": 999, **PASSING[name]})
    with pytest.raises(Failed, match="kept") as error:
        download(uri, tmp_path / "back", "model")
    assert_one_sentence(error.value)
    assert not (tmp_path / "back").exists()
    inject()
    download(uri, tmp_path / "back", "model")
    assert (tmp_path / "back/deep/weights.bin").read_bytes() == (model / "deep/weights.bin").read_bytes()


def test_a_conditional_put_whose_answer_was_lost_is_still_known_to_have_succeeded(s3, inject):
    inject({"method": "PUT", "times": 1, "do": "truncate", "bytes": 0})
    assert open_store(s3).create("claim", b"mine")


def test_a_conditional_put_that_met_a_rival_is_tried_again(s3, inject):
    inject({"method": "PUT", "times": 2, "do": 409, "code": "ConditionalRequestConflict"})
    assert open_store(s3).create("record", b"ours") is True
    assert open_store(s3).create("record", b"theirs") is False


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [
        (400, "ExpiredToken", "the credentials have expired"),
        (403, "AccessDenied", "this AWS_ACCESS_KEY_ID may not do this in bucket unsee"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION us-east-1 is wrong"),
        (301, "PermanentRedirect", "bucket unsee is not in AWS_REGION us-east-1"),
    ],
)
def test_credentials_that_expire_midway_and_the_like_are_named_at_once(status, code, named, s3, model, inject):
    inject({"method": "PUT", "path": "partNumber=2", "times": 99, "do": status, "code": code})
    with pytest.raises(UserError, match=named) as error:
        upload(model, "model", s3)
    assert_one_sentence(error.value)
    inject()
    assert MANIFEST in open_store(upload(model, "model", s3)).sizes()


FULL = """
import sys
from pathlib import Path
from unsee.explain import explain
from unsee.storage import transfer
transfer._require_room = lambda *_: None
try:
    transfer.download(sys.argv[1], Path(sys.argv[2]), "model")
except OSError as error:
    sys.exit(explain(error).sentence)
"""


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(s3, tmp_path, small_disk):
    uri = upload(make(tmp_path / "model", megabytes=1), "model", s3)
    with pytest.raises(UserError, match=r"1,048,\d+ bytes are needed and [\d,]+ are free; free some space"):
        download(uri, small_disk / "back", "model")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_told_and_no_artifact_is_there(s3, tmp_path, small_disk):
    uri = upload(make(tmp_path / "model", megabytes=1), "model", s3)
    run = subprocess.run(
        [sys.executable, "-c", FULL, uri, str(small_disk / "back")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "the disk is full; free some space and run again" in run.stderr
    assert not (small_disk / "back").exists()
