"""What surrounds every step: metrics shown, failures told, nothing started after a failure."""

import json
import time

import pytest

from unsee.errors import UserError
from unsee.steps.component import FAILURE_MARK, STOPPED, Failure, failures_told, paths, running
from unsee.storage import artifact


class Artifact:
    """A KFP artifact as steps see it."""

    def __init__(self, path):
        self.path = str(path)
        self.shown = {}

    def log_metric(self, metric, value):
        self.shown[metric] = value


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", STOPPED):
        monkeypatch.delenv(name, raising=False)


def test_finite_metrics_are_shown_and_all_are_written(tmp_path):
    metrics = Artifact(tmp_path / "metrics")
    with running("evaluate", metrics) as step:
        step.show({"forget/vqa/accuracy": 0.25, "realworld/vqa/accuracy": None})
    assert metrics.shown == {"forget/vqa/accuracy": 0.25}
    assert json.loads((tmp_path / "metrics").read_text()) == {
        "forget/vqa/accuracy": 0.25,
        "realworld/vqa/accuracy": None,
    }


def test_what_a_step_does_before_it_writes_is_part_of_its_time(tmp_path):
    with running("evaluate", Artifact(tmp_path / "metrics")):
        time.sleep(0.2)
        with artifact.create(tmp_path / "out", "evaluation", {}):
            pass
    assert artifact.read(tmp_path / "out", "evaluation").seconds >= 0.2


def test_a_failure_is_told_with_its_sentence_and_exit_code(capsys):
    with pytest.raises(UserError), failures_told("prune"):
        raise UserError("give another threshold")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(FAILURE_MARK)]
    failure = Failure.model_validate_json(line.removeprefix(FAILURE_MARK))
    assert (failure.step, failure.explanation.sentence, failure.explanation.code) == (
        "prune",
        "give another threshold",
        2,
    )


def test_no_step_starts_after_another_failed(monkeypatch):
    monkeypatch.setenv(STOPPED, "unlearn failed")
    started = []
    with pytest.raises(SystemExit, match="unlearn failed"), failures_told("evaluate"):
        started.append("evaluate")
    assert started == []


def test_artifacts_are_passed_on_as_directories(tmp_path):
    assert paths(model=Artifact(tmp_path)) == {"model": tmp_path}
