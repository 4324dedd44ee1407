"""Two comparisons made once per session; nothing is tracked."""

from typing import Any

import pytest
from made_seeds import RETRAINED, SEARCHED, VANILLA, Compared, Outcome, compared, make_seed


@pytest.fixture(autouse=True, scope="session")
def untracked() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KFP_RUN_ID"):
            patch.delenv(name, raising=False)
        yield


FIRST = {
    "vkd": Outcome(0.25, retain=0.96, relearned=0.45),
    "ga": Outcome(0.0, retain=0.5, relearned=0.6),
    "npo": Outcome(0.4, retain=0.96, realworld=0.7, told={"teacher_accuracy/both": 0.25}),
    "f_vkd": Outcome(0.3, settings={"method": "vkd", "mask": None}),
    "retrain": RETRAINED,
}
SECOND = {
    "vkd": Outcome(0.2, retain=0.94, relearned=0.45, seconds=5.0),
    "ga": Outcome(0.05, retain=0.5, relearned=0.7),
    "npo": Outcome(0.45, retain=0.96, realworld=0.7, told={"teacher_accuracy/both": 0.5}),
    "f_vkd": Outcome(0.3, settings={"method": "vkd", "mask": None}),
    "retrain": RETRAINED,
}


@pytest.fixture(scope="session")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """vkd at, then below the retrained model's 0.25; npo above it, and harmful to real-world people; ga far below, and
    harmful to those who stay."""
    root = tmp_path_factory.mktemp("two")
    made = [make_seed(root, seed, methods) for seed, methods in {1: SECOND, 0: FIRST}.items()]
    return compared(root, made, searched=SEARCHED)


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    root = tmp_path_factory.mktemp("one")
    return compared(root, [make_seed(root, 0, FIRST)])


@pytest.fixture(scope="session")
def one_person(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """One seed, one person to forget, whom no share of people can be drawn of; nobody from the real world."""
    root = tmp_path_factory.mktemp("person")
    unattacked = {"vanilla": Outcome(0.95, relearned=None), "retrained": Outcome(0.2, relearned=None)}
    methods = {"vkd": Outcome(0.3, relearned=None), "npo": Outcome(0.4, relearned=None)}
    people = {"forget": 1, "retain": 3, "realworld": 0}
    return compared(root, [make_seed(root, 0, methods, **unattacked, people=people)])


@pytest.fixture(scope="session")
def nothing_to_forget(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """In one of two seeds vanilla knows hardly more than the retrained model."""
    root = tmp_path_factory.mktemp("headroom")
    vanillas = {0: VANILLA, 1: Outcome(0.3)}
    return compared(root, [make_seed(root, seed, FIRST, vanilla=vanilla) for seed, vanilla in vanillas.items()])
