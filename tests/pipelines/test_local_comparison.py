"""The real comparison on this machine, its trainings cut to a few steps: results, MLflow runs, reuse, and kills."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from reduced import REDUCED, client, environment

METHODS = ("vkd", "npo", "vkd unlearn.beta=7")
SEEDS = (0, 1)
LINE = re.compile(r"\[ *\d+/\d+\] ([\w-]+) (done|cached|FAILED|…)")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def command(out: Path, methods: Sequence[str], seeds: int) -> list[str]:
    assignments = [part for setting in REDUCED for part in ("--set", setting)]
    options = ["--methods", ",".join(methods), "--seeds", str(seeds), "--out", str(out), *assignments]
    return [str(Path(sys.executable).with_name("unsee")), "compare", *options]


def compare(out: Path, methods: Sequence[str] = METHODS, seeds: int = len(SEEDS)) -> list[tuple[str, str]]:
    """Run a comparison: step and done, cached or FAILED, of every step that ran."""
    run = subprocess.run(command(out, methods, seeds), capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stderr
    return [(step, outcome) for step, outcome in LINE.findall(run.stdout) if outcome != "…"]


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


def test_a_killed_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed while the second of two methods is unlearning: what was done before is not done again."""
    out, methods = tmp_path / "killed", ("npo", "ga")
    done = []
    with subprocess.Popen(
        command(out, methods, 1), stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            done += LINE.findall(line)
            if done.count(("unlearn", "…")) == len(methods):
                os.killpg(process.pid, signal.SIGKILL)
                break
    before = Counter(step for step, outcome in done if outcome == "done")
    assert before["unlearn"] == before["relearn-method"] == 1
    after = compare(out, methods, 1)
    assert Counter(step for step, outcome in after if outcome == "cached") == before
    assert json.loads((out / "comparison.json").read_text())["methods"].keys() == {*methods}
