"""A request is taken on by one run at a time, and by another only after that one is known to have ended."""

import pytest
from rivals import at_once, claims

from unsee.errors import UserError
from unsee.requests import inbox, turn
from unsee.requests.journal import Answered, Journal
from unsee.storage import artifact
from unsee.storage.store import open_store
from unsee.storage.transfer import upload


def answered(run, request_id, outcome="honoured", people=("P001",)):
    return Answered(run=run, request_id=request_id, outcome=outcome, reason="", people=people)


def test_of_runs_at_once_one_takes_on_everything_and_the_others_nothing(root, ask):
    for number in range(5):
        for name in ("one", "two", "three"):
            ask(f"{root}/{number}", name)
    for of_store in zip(*at_once(4, claims, root), strict=True):
        taken = [sorted(claimed) for claimed in of_store if claimed]
        assert taken == [["one", "three", "two"]]


def test_a_run_that_claims_again_keeps_what_it_took_on(root, ask):
    ask(root, "one")
    first = turn.claim(root, "run")
    ask(root, "two")
    assert turn.claim(root, "run") == first
    assert list(first) == ["one"]
    assert len(Journal(root).read()) == 1


def test_while_a_run_is_at_work_another_is_told_so_and_takes_on_nothing(root, ask):
    ask(root, "one")
    turn.claim(root, "first")
    ask(root, "two")
    with pytest.raises(UserError, match=r"run first is at work on requests one; .* unsee requests release first"):
        turn.claim(root, "second")
    assert turn.Turn.of(Journal(root).read()).run == "first"


def test_without_open_requests_nothing_is_written(root, ask):
    assert turn.claim(root, "run") == {}
    assert turn.end(root, "run") is False
    assert Journal(root).store.sizes() == {}
    ask(root, "one")
    turn.claim(root, "run")
    turn.answer(root, "run", [answered("run", "one")])
    turn.end(root, "run")
    before = Journal(root).store.sizes()
    assert turn.claim(root, "next") == {}
    assert Journal(root).store.sizes() == before


def test_what_an_ended_run_did_not_answer_is_open_again(root, ask):
    ask(root, "one")
    ask(root, "two")
    turn.claim(root, "first")
    turn.answer(root, "first", [answered("first", "one")])
    assert turn.end(root, "first") is True
    assert list(turn.claim(root, "second")) == ["two"]


def test_only_the_run_whose_turn_it_is_can_end_it(root, ask):
    ask(root, "one")
    turn.claim(root, "first")
    assert turn.end(root, "second") is False
    assert turn.Turn.of(Journal(root).read()).run == "first"


def test_a_run_that_has_ended_can_answer_nothing_any_more(root, ask):
    ask(root, "one")
    turn.claim(root, "first")
    turn.end(root, "first")
    turn.claim(root, "second")
    with pytest.raises(UserError, match="run first has no claim on any request"):
        turn.answer(root, "first", [answered("first", "one")])
    assert turn.Turn.of(Journal(root).read()).answers == {}


def test_answers_that_are_recorded_are_not_recorded_again(root, ask):
    ask(root, "one")
    ask(root, "two")
    turn.claim(root, "run")
    turn.answer(root, "run", [answered("run", "one")])
    turn.answer(root, "run", [answered("run", "one"), answered("run", "two")])
    events = [record.event for record in Journal(root).read()]
    assert [event.request_id for event in events[1:]] == ["one", "two"]


def test_what_was_not_honoured_is_tried_again_with_the_next_or_when_asked(root, ask):
    ask(root, "one")
    turn.claim(root, "first")
    turn.answer(root, "first", [answered("first", "one", "not_honoured")])
    turn.end(root, "first")
    assert turn.claim(root, "second") == {}
    assert list(turn.claim(root, "third", retry=True)) == ["one"]
    turn.end(root, "third")
    ask(root, "two")
    assert list(turn.claim(root, "fourth")) == ["one", "two"]


@pytest.mark.parametrize("damage", [b"{}", None])
def test_what_was_not_honoured_and_changed_since_is_named_and_not_claimed(root, ask, damage):
    ask(root, "one")
    turn.claim(root, "first")
    turn.answer(root, "first", [answered("first", "one", "not_honoured")])
    turn.end(root, "first")
    if damage:
        inbox.inbox(root).write("one.json", damage)
    else:
        inbox.inbox(root).delete("one.json")
    ask(root, "two")
    with pytest.raises(UserError, match="request one was changed or deleted after it was claimed"):
        turn.claim(root, "second")
    assert turn.Turn.of(Journal(root).read()).run is None


def test_everybody_who_was_ever_answered_stays_among_the_people(root, ask):
    for number, name in enumerate(("one", "two")):
        ask(root, name)
        turn.claim(root, f"run-{number}")
        turn.answer(root, f"run-{number}", [answered(f"run-{number}", name, people=(f"P00{number}",))])
        turn.end(root, f"run-{number}")
    assert turn.Turn.of(Journal(root).read()).people == {"P000", "P001"}


def test_verify_names_a_request_that_was_changed_after_it_was_claimed(root, ask):
    ask(root, "one")
    turn.claim(root, "run")
    assert len(turn.verify(root)) == 1
    inbox.inbox(root).write("one.json", b"{}")
    with pytest.raises(UserError, match="request one was changed or deleted"):
        turn.verify(root)


@pytest.fixture
def certified(root, ask, tmp_path):
    """The address of the certificate of an answered request."""
    ask(root, "one")
    turn.claim(root, "run")
    with artifact.create(tmp_path / "made", turn.CERTIFICATE, {}):
        artifact.write_json(tmp_path / "made/certificate.json", {"headline": "one person is no longer recognised"})
    address = upload(tmp_path / "made", turn.CERTIFICATE, root)
    turn.answer(root, "run", [answered("run", "one").model_copy(update={"certificate": address})])
    assert len(turn.verify(root)) == 2
    return address


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda store: store.write("certificate.json", b"{}"), r"certificate.json was changed or deleted"),
        (lambda store: store.delete("certificate.json"), r"certificate.json was changed or deleted"),
        (lambda store: store.delete("manifest.json"), r"manifest.json is missing"),
    ],
)
def test_verify_names_a_certificate_that_was_changed_or_deleted(root, certified, harm, told):
    harm(open_store(certified))
    with pytest.raises(UserError, match=told) as caught:
        turn.verify(root)
    assert certified in str(caught.value)
