"""Twenty deletion requests, one after another, at full size: nobody comes back, and nobody else is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.figures, pytest.mark.timeout(4 * 3600)]

CONTINUAL = Path(__file__).parents[2] / "docs" / "continual.py"
REQUESTS = 20


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What was measured after each request."""
    out = tmp_path_factory.mktemp("continual")
    subprocess.run([sys.executable, str(CONTINUAL), "--requests", str(REQUESTS), "--out", str(out)], check=True)
    assert (out / "continual.png").stat().st_size > 10_000
    return json.loads((out / "continual.json").read_text())


def test_every_request_is_honoured(points):
    assert [(each["people"], each["outcome"]) for each in points] == [(n + 1, "honoured") for n in range(REQUESTS)]


def test_what_is_forgotten_stays_forgotten(points):
    assert all(each["heldout"]["vanilla"] >= 0.85 for each in points)
    assert all(each["heldout"]["unlearned"] <= 0.5 for each in points)
    assert points[-1]["heldout"]["unlearned"] <= 0.36
    assert points[-1]["train"]["unlearned"] <= 0.36


def test_everyone_else_loses_at_most_five_points_in_total(points):
    for each in points:
        for models in each["others"].values():
            assert models["vanilla"] - models["unlearned"] <= 0.05
