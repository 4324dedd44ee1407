"""Exceptions become one sentence and the right exit code."""

import errno

import pytest

from unsee.errors import TrainingFailure, UserError
from unsee.explain import explain


def test_a_user_error_is_its_sentence_and_exit_code_2():
    explanation = explain(UserError("give another directory"))
    assert (explanation.sentence, explanation.code) == ("give another directory", 2)


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_disks_that_cannot_be_written_are_named_with_the_mend(number, word):
    explanation = explain(OSError(number, "no", "/somewhere"))
    assert explanation.code == 2
    assert explanation.sentence.startswith("/somewhere: ")
    assert word in explanation.sentence


def test_a_training_failure_speaks_for_itself_with_exit_code_1():
    explanation = explain(TrainingFailure("the loss is NaN at step 3"))
    assert (explanation.sentence, explanation.code) == ("the loss is NaN at step 3", 1)


def test_a_failure_inside_names_its_kind():
    explanation = explain(KeyError("x"))
    assert (explanation.sentence, explanation.code) == ("KeyError: 'x'", 1)
