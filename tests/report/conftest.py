"""Runs of made artifacts, reported once per session; nothing is tracked unless a test says so."""

from typing import Any

import pytest
from made_run import Accuracies, Reported, reported


@pytest.fixture(autouse=True, scope="session")
def untracked() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def success(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return reported(tmp_path_factory.mktemp("success"))


@pytest.fixture(scope="session")
def failure(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Half the knowledge is still there, and everyone else suffered."""
    root = tmp_path_factory.mktemp("failure")
    return reported(root, unlearned=Accuracies(0.6, 0.85, 0.98), relearned=0.7)


@pytest.fixture(scope="session")
def one_person(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """One person with a hostile name, nobody from the real world, no retrained reference."""
    root = tmp_path_factory.mktemp("one")
    sizes = {"forget": 1, "retain": 3}
    return reported(root, sizes=sizes, names=["<script>alert('x')</script>"], with_retrained=False)


@pytest.fixture(scope="session")
def one_person_compared(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """One person with a retrained reference, and too few photographs for an attack."""
    root = tmp_path_factory.mktemp("compared")
    return reported(root, sizes={"forget": 1, "retain": 3}, names=["Ada Moss"], relearned=None)
