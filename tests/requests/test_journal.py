"""A journal is one chain, whoever writes at once, and what is changed in it afterwards is noticed and named."""

import json

import pytest
from rivals import appends, at_once

from unsee.errors import UserError
from unsee.requests.journal import BEFORE_THE_FIRST, Ended, Journal, Record


def events(count):
    return [Ended(run=f"run-{number}", by="a test") for number in range(count)]


@pytest.fixture
def journal(root):
    """Four records."""
    made = Journal(root)
    made.append(lambda _: events(4))
    return made


def test_records_come_back_in_their_order_each_with_the_sha256_of_the_one_before(journal):
    records = journal.read()
    assert [record.event for record in records] == events(4)
    assert [record.sequence for record in records] == [1, 2, 3, 4]
    assert [record.previous for record in records] == [BEFORE_THE_FIRST, *(record.digest for record in records[:3])]


def test_writers_at_once_do_not_fork_it(root):
    assert at_once(4, appends, root) == [None] * 4
    written = [record.event.run for record in Journal(root).read()]
    assert len(written) == len(set(written)) == 20
    for number in range(4):
        own = [run for run in written if run.startswith(f"run-{number}-")]
        assert own == sorted(own)


def test_a_writer_that_comes_second_decides_anew(root):
    seen = []

    def decide(records):
        seen.append(len(records))
        if len(seen) == 1:
            Journal(root).append(lambda _: events(1))
        return [Ended(run="second", by="a test")] if len(records) < 2 else []

    assert [record.event.run for record in Journal(root).append(decide)] == ["run-0", "second"]
    assert seen == [0, 1]


def forged(journal, sequence, **changes):
    """The record with other content, in the form in which records are written."""
    record = Record.model_validate_json(journal.store.read(f"{sequence:08d}.json"))
    return record.model_copy(update=changes).bytes


def test_a_changed_record_is_named(journal):
    journal.store.write("00000002.json", forged(journal, 2, event=Ended(run="forged", by="a test")))
    with pytest.raises(UserError, match=r"the chain is broken at 00000003\.json: it or 00000002\.json was changed"):
        journal.read()


def test_a_dropped_record_is_named(journal):
    journal.store.delete("00000002.json")
    with pytest.raises(UserError, match=r"00000002\.json is missing before 00000003\.json"):
        journal.read()


def test_a_record_in_the_place_of_another_is_named(journal):
    journal.store.write("00000002.json", journal.store.read("00000003.json"))
    with pytest.raises(UserError, match=r"00000002\.json was changed"):
        journal.read()


def test_a_forged_beginning_is_named(journal):
    journal.store.write("00000001.json", forged(journal, 1, previous="1" * 64))
    with pytest.raises(UserError, match=r"the chain is broken at 00000001\.json: it was changed"):
        journal.read()


@pytest.mark.parametrize("content", [b"{}", b"", json.dumps({"sequence": 2}).encode()])
def test_what_is_no_record_is_named(journal, content):
    journal.store.write("00000002.json", content)
    with pytest.raises(UserError, match=r"00000002\.json is no record"):
        journal.read()


def test_the_same_facts_in_other_bytes_are_a_change(journal):
    journal.store.write("00000004.json", journal.store.read("00000004.json") + b" ")
    with pytest.raises(UserError, match=r"00000004\.json was changed"):
        journal.read()


def test_nothing_is_appended_to_a_broken_chain(journal):
    journal.store.write("00000002.json", forged(journal, 2, event=Ended(run="forged", by="a test")))
    before = journal.store.sizes()
    with pytest.raises(UserError, match="the chain is broken"):
        journal.append(lambda _: events(1))
    assert journal.store.sizes() == before


def test_newest_records_that_were_cut_off_show_in_a_noted_head_alone(journal):
    noted = journal.read()[-1].digest
    journal.store.delete("00000004.json")
    left = journal.read()
    assert [record.sequence for record in left] == [1, 2, 3]
    journal.append(lambda _: events(1))
    assert noted not in [record.digest for record in journal.read()]
