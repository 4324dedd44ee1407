"""What `unsee run` prints last says the same as the report."""

import json
import re
import shutil
from pathlib import Path

import pytest
from made_run import Reported

from unsee_pipelines.local import Outcome
from unsee_pipelines.summary import final_table


@pytest.fixture
def table(tmp_path: Path):
    """The final table of a run whose report is this one, pruned anew with everything else from the cache."""

    def of(run: Reported, memory: int | None = 1_620_000_000) -> str:
        shutil.copyfile(run.directory / "summary.json", tmp_path / "summary.json")
        (tmp_path / "registration.json").write_text(json.dumps({"models": {}, "reason": "untracked"}))
        seconds = dict.fromkeys(run.summary["timing"], 0.0) | {"resolve-settings": 0.2, "prune": 6.4}
        cached = frozenset(run.summary["timing"]) - {"prune"}
        return final_table(Outcome(tmp_path, "sqlite:///mlflow.db", "run", seconds, cached, memory))

    return of


def test_it_begins_with_the_headline(table, failure: Reported) -> None:
    assert table(failure).partition("\n")[0] == failure.summary["verdict"]["headline"]


def test_the_worst_relearning_is_printed_beside_its_control(table, failure: Reported) -> None:
    printed = table(failure)
    found = re.search(r"^relearning, (\d+) % of photographs, points +(\S+) +(\S+)$", printed, re.M)
    entry = failure.summary["relearning"]["image"][found[1]]
    assert (found[2], found[3]) == (f"{100 * entry['gap_unseen_control']:+.1f}", f"{100 * entry['gap_unseen']:+.1f}")
    assert entry["gap_beyond_control"] == max(
        entry["gap_beyond_control"] for entry in failure.summary["relearning"]["image"].values()
    )
    (heading,) = re.findall(r"^accuracy in %.*unlearned$", printed, re.M)
    assert len(found[0]) == len(heading)


def test_without_a_control_it_says_why_there_is_no_relearning_figure(table, one_person_compared: Reported) -> None:
    (line,) = [line for line in table(one_person_compared).splitlines() if line.startswith("relearning")]
    assert "not measured: 10 % of 6 people is nobody" in line


def test_times_are_those_of_the_report_with_what_came_from_the_cache(table, success: Reported) -> None:
    lines = dict(re.findall(r"^([\w-]+) +([\d.]+ s(?:, cached)?)$", table(success), re.M))
    timing = success.summary["timing"]
    assert set(lines) == set(timing)
    assert lines["prune"] == f"{timing['prune']:.1f} s"
    assert lines["build-vanilla"] == f"{timing['build-vanilla']:.1f} s, cached"
    assert re.search(r"^this run +6\.6 s, at most 1\.6 GB of memory$", table(success), re.M)
    assert re.search(r"^this run +6\.6 s$", table(success, memory=None), re.M)
