"""What comes into the inbox stays as it came, and what is no request is told apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unsee.errors import UserError
from unsee.requests import inbox, turn
from unsee.requests.inbox import DeletionRequest
from unsee.storage.store import open_store

SOUND = {"request_id": "one", "entities": ["P001"], "reason": "asked", "received_at": "2026-11-01T00:00:00+01:00"}


def test_a_request_comes_back_as_it_was_put(root, ask):
    request = ask(root, "one", "P001", "P002")
    assert inbox.received(root)["one"].request == request
    assert ask(root, "one", "P001", "P002") == request


def test_an_id_is_given_once(root, ask):
    ask(root, "one", "P001")
    with pytest.raises(UserError, match=r"requests/inbox/one\.json is there already"):
        ask(root, "one", "P002")
    assert inbox.received(root)["one"].request.entities == ("P001",)


def test_an_inbox_that_nobody_used_is_empty(root):
    assert inbox.received(root) == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"entities": []}, "give either entities or images"),
        ({"images": ["0" * 64]}, "give either entities or images"),
        ({"entities": [], "images": ["0" * 63]}, "images.0: String should match"),
        ({"entities": [""]}, "entities.0: String should have at least 1"),
        ({"received_at": "2026-11-01T00:00:00"}, "received_at: Input should have timezone"),
        ({"name": "Ada"}, "name: Extra inputs are not permitted"),
        ({"request_id": "two"}, "request_id 'two' is not the file's name"),
    ],
)
def test_what_is_no_request_is_told_with_its_field(root, change, problem):
    inbox.inbox(root).write("one.json", json.dumps({**SOUND, **change}).encode())
    found = inbox.received(root)["one"]
    assert found.request is None
    assert problem in found.problem


def test_a_file_beside_a_request_does_not_take_its_place(root, ask):
    for name in ("one", "one.json.part", "notes.txt"):
        inbox.inbox(root).write(name, b"being written")
    request = ask(root, "one", "P001")
    assert {name: file.request for name, file in inbox.received(root).items()} == {"one": request}


def test_a_folder_made_in_a_console_is_no_object(s3, ask):
    store = open_store(s3)
    for folder in ("requests/inbox/", "requests/journal/"):
        store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}{folder}", Body=b"")
    ask(s3, "one", "P001")
    assert list(turn.claim(s3, "run")) == ["one"]
    assert len(turn.verify(s3)) == 1


def test_what_is_no_json_is_told(root):
    inbox.inbox(root).write("one.json", b"\xff\x00{")
    assert "Invalid JSON" in inbox.received(root)["one"].problem


@given(st.text(max_size=8))
def test_an_id_cannot_lead_out_of_the_inbox(name):
    try:
        request = DeletionRequest.model_validate({**SOUND, "request_id": name})
    except ValidationError:
        return
    assert "/" not in request.request_id
    assert request.request_id[0].isalnum()
    assert request.request_id.isascii()
    assert request.request_id.isprintable()
