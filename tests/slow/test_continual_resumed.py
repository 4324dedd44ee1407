"""docs/continual.py is killed while a request is answered: it goes on there, and measures nothing twice."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from reduced import REDUCED, environment

from unsee.requests.journal import Answered, Claimed, Ended, Journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CONTINUAL = Path(__file__).parents[2] / "docs" / "continual.py"


def command(out: Path, *options: str) -> list[str]:
    settings = [part for setting in REDUCED for part in ("--set", setting)]
    return [sys.executable, str(CONTINUAL), "--requests", "2", "--out", str(out), *settings, *options]


def test_a_killed_sequence_of_requests_goes_on_where_it_was(tmp_path: Path) -> None:
    out, store = tmp_path / "out", (tmp_path / "out" / "store").as_uri()
    started = subprocess.Popen(
        command(out), stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    assert any("match-requests done" in line for line in started.stdout)
    refused = subprocess.run(command(out), capture_output=True, text=True, env=environment(), check=False)
    assert "another process is at work" in refused.stderr
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert [record.event.kind for record in Journal(store).read()] == ["claimed"]

    subprocess.run(command(out), env=environment(), check=True)
    events = [record.event for record in Journal(store).read()]
    assert Counter(type(event) for event in events) == {Claimed: 3, Answered: 2, Ended: 3}
    measured = (out / "continual.json").read_text()
    assert [(each["request"], each["people"]) for each in json.loads(measured)] == [(1, 1), (2, 2)]

    (out / "01" / "answers.json").unlink()  # as if it had been killed before this was brought to its place
    subprocess.run(command(out), env=environment(), check=True)
    assert (out / "continual.json").read_text() == measured
    assert [record.event for record in Journal(store).read()] == events

    other = subprocess.run(command(out, "--seed", "1"), capture_output=True, text=True, env=environment(), check=False)
    assert "was begun with other options" in other.stderr
