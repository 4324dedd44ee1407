"""Requests in a store, of whichever kind."""

import datetime

import pytest

from unsee.requests import inbox
from unsee.requests.inbox import DeletionRequest


@pytest.fixture
def ask():
    """ask(root, id, *entities): put a request into the inbox."""

    def put(root: str, request_id: str, *entities: str) -> DeletionRequest:
        when = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
        request = DeletionRequest(request_id=request_id, entities=entities or ("P001",), received_at=when)
        inbox.add(root, request)
        return request

    return put
