"""What KFP's local engine prints becomes a few lines that a person can read."""

import io
import logging

import pytest

from unsee.explain import Explanation
from unsee.steps.component import FAILURE_MARK, Failure
from unsee_pipelines.transcript import Transcript, everything_into


@pytest.fixture
def transcript():
    names = {"prune": "prune", "evaluate-2": "evaluate-unlearned"}
    return Transcript(
        names, io.StringIO(), io.StringIO(), on_failure=lambda step: None, steps=2, left_all=lambda task: True
    )


def shown(transcript):
    return transcript.terminal.getvalue().splitlines()


def test_started_and_finished_steps_are_told_by_their_names(transcript):
    transcript.write("00:00:01 - INFO - Executing task \x1b[96m'evaluate-2'\x1b[0m\n")
    transcript.write("00:00:02 - INFO - Task \x1b[96m'evaluate-2'\x1b[0m finished with ")
    transcript.write("status \x1b[92mSUCCESS\x1b[0m\n")
    started, finished = shown(transcript)
    assert started == "[1/2] evaluate-unlearned …"
    assert finished.startswith("[1/2] evaluate-unlearned done, ")


def test_a_step_served_from_the_cache_is_called_cached(transcript):
    transcript.write("Task prune cache hit (key=0123456789ab); skipping execution.\n")
    assert shown(transcript) == ["[1/2] prune cached"]
    assert transcript.cached == {"prune"}


def test_progress_lines_are_shown_and_noise_only_logged(transcript):
    transcript.write("    » unlearning 3/10, 12 s\n    [KFP Executor INFO]: Got executor_input:\n")
    assert shown(transcript) == ["        unlearning 3/10, 12 s"]
    assert "Got executor_input" in transcript.log.getvalue()


def test_a_told_failure_is_kept_and_nothing_is_shown_after_the_failed_step(transcript):
    failure = Failure(step="prune", explanation=Explanation(sentence="give another", code=2), traceback="…")
    transcript.write("Executing task 'prune'\n")
    transcript.write(f"    {FAILURE_MARK}{failure.model_dump_json()}\n")
    transcript.write("Task 'prune' finished with status FAILURE\nExecuting task 'evaluate-2'\n")
    assert transcript.failure == failure
    assert transcript.failed_step == "prune"
    assert shown(transcript)[-1].startswith("[1/2] prune FAILED")


def test_the_last_words_of_a_step_that_dies_are_kept(transcript):
    transcript.write("Executing task 'prune'\n    Killed\n\nTask 'prune' finished with status FAILURE\nlater\n")
    assert transcript.last_words == "Killed"


def test_what_is_logged_meanwhile_goes_nowhere_else(transcript):
    root, elsewhere = logging.getLogger(), logging.StreamHandler(io.StringIO())
    root.addHandler(elsewhere)
    try:
        with everything_into(transcript):
            logging.info("Cleaned up workspace")
        assert elsewhere in root.handlers
    finally:
        root.removeHandler(elsewhere)
    assert elsewhere.stream.getvalue() == ""
    assert "Cleaned up workspace" in transcript.log.getvalue()
