"""What a run takes from the cache of earlier ones: all that did not change, and nothing that did.

The DAG, its arguments, KFP's engine and its cache are the real ones. Steps only note that they ran: what is reused
follows from what they are given. test_code.py tells what changes the code digest.
"""

from pathlib import Path

import pytest
from noted_steps import execute, noted
from reduced import INDEPENDENT_OF_THRESHOLD

from unsee.benchmark import embedded
from unsee.sections import BenchmarkSettings
from unsee.steps import resolve_settings
from unsee_pipelines import jobs
from unsee_pipelines.engine import step_names
from unsee_pipelines.jobs import Request, unlearn_job
from unsee_pipelines.unlearn import unlearning

NAMES = step_names(unlearning.pipeline_spec)
STEPS = {*NAMES.values()}
NEVER_REUSED = {"report", "register", "finish"}


def run(root: Path, request: Request, seed: int = 0) -> set[str]:
    """Run the DAG with the cache below `root`: the names of the steps that ran."""
    job = unlearn_job(request, "vkd", seed)
    passed_on = ("preset", "overrides", "config", "method", "seed", "benchmark")
    sections = resolve_settings.run(*(job.arguments[name] for name in passed_on))
    name = f"run-{len([*root.glob('run-*.txt')])}"
    execute(job.dag, job.arguments, root, name, sections)
    return {NAMES[task] for task in noted(root, name)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has filled the cache."""
    root = tmp_path_factory.mktemp("reuse")
    assert run(root, Request()) == STEPS
    return root


def test_the_same_run_is_served_from_the_cache(root: Path) -> None:
    assert run(root, Request()) == NEVER_REUSED


def test_another_threshold_reuses_all_that_does_not_depend_on_it(root: Path) -> None:
    assert STEPS - run(root, Request(assignments=("prune.threshold.fraction=0.2",))) == INDEPENDENT_OF_THRESHOLD


def test_other_settings_of_the_data_reuse_nothing(root: Path) -> None:
    assert run(root, Request(assignments=("benchmark.retain=4",))) == STEPS


def test_another_seed_reuses_nothing(root: Path) -> None:
    assert run(root, Request(), seed=1) == STEPS


def test_changed_code_reuses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "code_digest", lambda: "of other code")
    assert run(root, Request()) == STEPS


def test_a_benchmark_directory_is_reused_until_its_content_changes(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    of_data = Request(benchmark=str(data))
    for seed in (1, 2):
        settings = BenchmarkSettings(forget=1, retain=2, train_views=2, heldout_views=1, seed=seed)
        embedded.generate(settings, data)
        anew = STEPS if seed == 1 else STEPS - {"resolve-settings"}
        assert run(root, of_data) == anew
        assert run(root, of_data) == NEVER_REUSED
