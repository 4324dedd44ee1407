"""What `unsee plan` prints, against what the steps of a run take: mid-size models of two families on this CPU."""

import json
import os
import shutil
import subprocess
import sys

import mid_size
import pytest

RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Memory that is freed goes back to the system. What glibc otherwise keeps of it is no plan's (docs/memory.md)."""


@pytest.fixture
def scratch(tmp_path):
    """A directory that is deleted: pytest keeps those of the last three runs."""
    directory = tmp_path / "run"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def told(what, name, directory, environment):
    command = [sys.executable, mid_size.__file__, what, name, directory]
    run = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)


@pytest.mark.long
@pytest.mark.parametrize("name", mid_size.RUNS)
@pytest.mark.usefixtures("database")
def test_a_plan_is_within_15_percent_of_what_every_step_takes(name, scratch):
    mid_size.make(mid_size.RUNS[name], scratch)
    planned = told("plan", name, scratch, {})
    taken = told("take", name, scratch, RETURNED)
    assert {step: found["peak_device_bytes"] for step, found in planned.items()} == {
        step: pytest.approx(taken[step], rel=0.15) for step in planned
    }
    for step, found in planned.items():
        tensors = sum(found[f"{part}_bytes"] for part in ("weight", "gradient", "optimiser"))
        assert tensors + found["activation_bytes"]["as_computed"] > taken[step] / 2
