"""What a person sees who opens MLflow in a browser: its real pages, of runs that the report step finished."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import screenshots
from made_run import Reported
from mlflow import MlflowClient
from mlflow.entities import Run
from pages import text

from unsee.stack import Stack
from unsee.steps import report
from unsee.tracking.mlflow import finish_parent, start_parent, step_run

METHODS = ("vkd", "ga_diff")
NAMES = {"forget/vqa/accuracy", "forget/vqa/heldout_accuracy", "retain/qa/accuracy", "relearning/image/20/gap"}
WITH_ROOM = 15


@pytest.fixture(scope="module")
def runs(success: Reported, empty_database: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    """Two finished runs in the MLflow server of a stack."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    (stack.directory / "mlflow.db").write_bytes(empty_database)
    stack.up()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        yield [finished(success, method, tmp_path_factory.mktemp(method), patch) for method in METHODS]
    stack.down()


def finished(reported: Reported, method: str, directory: Path, patch: pytest.MonkeyPatch) -> Run:
    run_id = start_parent(method, {"method": method})
    patch.setenv("MLFLOW_RUN_ID", run_id)
    with step_run("report") as tracker:
        report.run(**reported.arguments, out=directory / "report", tracker=tracker)
    patch.delenv("MLFLOW_RUN_ID")
    finish_parent(run_id, succeeded=True)
    return MlflowClient().get_run(run_id)


def shown(address: str) -> str:
    """What a page says once it has loaded."""
    return text(screenshots.opened(address, "--dump-dom"))


def test_the_page_of_a_run_shows_its_metrics_parameters_steps_and_people(runs: list[Run]) -> None:
    page = shown(screenshots.run_page(MlflowClient(), runs[0]))
    assert runs[0].data.metrics.keys() >= NAMES
    assert set(page.split()) >= {*runs[0].data.metrics, *runs[0].data.params, "report"}
    assert any(data.dataset.name in page for data in runs[0].inputs.dataset_inputs)


def test_the_page_that_compares_runs_shows_both_with_their_parameters_and_metrics(runs: list[Run]) -> None:
    """The page holds the metrics that have room on it; the others come by scrolling."""
    words = set(shown(screenshots.compare_page(MlflowClient(), runs)).split())
    assert words >= {*METHODS, *(run.info.run_id for run in runs), *runs[0].data.params}
    assert words >= set(sorted(runs[0].data.metrics)[:WITH_ROOM])


def test_the_pictures_are_small_and_of_the_page_alone(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    screenshots.main()
    for name in ("mlflow-run", "mlflow-compare"):
        file = tmp_path / f"docs/{name}.png"
        with screenshots.Image.open(file) as picture:
            assert picture.mode == "P"
            assert picture.width == screenshots.SIZE[0] - screenshots.MENU - screenshots.ASSISTANT
        assert 10_000 < file.stat().st_size < 200_000
