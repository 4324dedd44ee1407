"""The real comparison on this machine, its trainings cut to a few steps: results, MLflow runs, and reuse."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from reduced import REDUCED, client, environment

METHODS = ("vkd", "npo", "vkd unlearn.beta=7")
SEEDS = (0, 1)
LINE = re.compile(r"\[ *\d+/52\] ([\w-]+) (done|cached|FAILED)")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def compare(out: Path) -> list[tuple[str, str]]:
    """Run a comparison: step and done, cached or FAILED, of every step that ran."""
    assignments = [part for setting in REDUCED for part in ("--set", setting)]
    options = ["--methods", ",".join(METHODS), "--seeds", str(len(SEEDS)), "--out", str(out), *assignments]
    command = [str(Path(sys.executable).with_name("unsee")), "compare", *options]
    run = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stderr
    return LINE.findall(run.stdout)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    assert Counter(outcome for _, outcome in compare(out)) == {"done": 52}
    return out


def test_every_method_is_compared_over_both_seeds(first: Path) -> None:
    comparison = json.loads((first / "comparison.json").read_text())
    assert comparison["methods"].keys() == {*METHODS}
    assert comparison["seeds"] == [*SEEDS]
    assert {method: found["settings"].get("beta") for method, found in comparison["methods"].items()} == {
        "vkd": 14.0,
        "npo": 0.4,
        "vkd unlearn.beta=7": 7.0,
    }
    assert (first / "report.html").exists()


def test_there_is_one_mlflow_run_per_step_method_and_seed(first: Path) -> None:
    store = client(first)
    (experiment,) = [e for e in store.search_experiments() if e.name == "unsee"]
    (parent,) = store.search_runs([experiment.experiment_id], "tags.`mlflow.runName` = 'compare first'")
    nested = store.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    runs = {run.info.run_name: run for run in nested}
    assert len(runs) == len(nested)
    assert {run.info.status for run in (parent, *nested)} == {"FINISHED"}
    for seed in SEEDS:
        assert {f"{step}, seed {seed}" for step in ("prepare-benchmark", "build-vanilla", "build-retrained")} < {*runs}
        for method in METHODS:
            assert runs[f"unlearn {method}, seed {seed}"].data.params["seed"] == str(seed)
            assert {f"{step}-{method}, seed {seed}" for step in ("evaluate", "relearn")} < {*runs}
    assert [runs[f"unlearn {method}, seed 0"].data.params["beta"] for method in METHODS] == ["14.0", "0.4", "7.0"]


def test_a_second_comparison_is_served_from_the_cache(first: Path) -> None:
    anew = [step for step, outcome in compare(first.parent / "second") if outcome != "cached"]
    assert anew == ["compare-report", "finish"]
