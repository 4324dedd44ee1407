"""One person is forgotten from a folder of real photographs, by the commands a user types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import openpeople_folder
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PERSON, NAME = "P003", "Hannah Brook"
CHANCE = 1 / 4  # four options
REDUCED = (
    "vanilla.text_steps=40",
    "vanilla.steps=200",
    "vanilla.batch_images=32",
    "unlearn.epochs=6",
    "evaluation.bootstrap=100",
)


def unsee(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("unsee")), *arguments]
    untracked = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(command, capture_output=True, text=True, env=untracked)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of the run."""
    root = tmp_path_factory.mktemp("photos")
    photographs = openpeople_folder.make(root / "folder")
    imported = unsee("benchmark", "import", "folder", str(photographs), "--out", str(root / "benchmark"))
    assert imported.returncode == 0, imported.stderr
    settings = [part for setting in REDUCED for part in ("--set", setting)]
    request = ["--benchmark", str(root / "benchmark"), "--forget", PERSON, "--out", str(root / "runs" / "photos")]
    run = unsee("run", "--preset", "embedded", *request, *settings)
    assert run.returncode == 0, run.stderr
    return root / "runs" / "photos"


@pytest.fixture(scope="module")
def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def qa_predictions(out: Path, model: str) -> list[dict]:
    """What a model scored and said to the questions without a portrait."""
    results = (out.parent / ".unsee").glob("artifacts/*/*/*/evaluation/metrics.json")
    (directory,) = [path.parent for path in results if json.loads(path.read_text())["model"] == model]
    return [row for row in pq.read_table(directory / "predictions.parquet").to_pylist() if row["modality"] == "qa"]


def test_only_the_requested_person_is_forgotten(summary):
    assert summary["forget"] == [PERSON]


def test_the_model_knew_the_photographs_before(summary):
    assert summary["models"]["vanilla"]["forget/vqa/accuracy"] > 3 * CHANCE


def test_unlearning_takes_away_what_the_photographs_told(summary):
    vanilla, unlearned = (summary["models"][model]["forget/vqa/accuracy"] for model in ("vanilla", "unlearned"))
    assert unlearned < vanilla


def test_answers_without_a_photograph_are_those_of_the_vanilla_model_to_the_last_bit(out):
    before, after = qa_predictions(out, "vanilla"), qa_predictions(out, "unlearned")
    assert {row["split"] for row in before} == {"forget", "retain"}
    assert after == before


def test_without_a_realworld_set_its_metrics_are_null_and_say_why(summary):
    for model, metrics in summary["models"].items():
        names = [name for name in metrics if name.startswith("realworld/")]
        assert "realworld/vqa/heldout_accuracy" in names
        for name in names:
            assert metrics[name] is None
            assert summary["not_measured"][model][name] == "nobody in this request is in the realworld set"


def test_relearning_from_some_of_one_person_is_null_and_says_why(summary):
    for percent, attack in summary["relearning"]["person"].items():
        assert attack["gap"] is None
        assert attack["reason"].startswith(f"{percent} % of 1 forget people")


def test_relearning_from_some_photographs_is_measured(summary):
    assert set(summary["relearning"]["image"]) == {"10", "20", "30"}
    for attack in summary["relearning"]["image"].values():
        assert attack["after"] - attack["before"] == pytest.approx(attack["gap"])
        assert len(attack["curve"]) == 6


def test_the_report_and_mlflow_show_no_settings_of_a_generated_benchmark(out):
    page = (out / "report.html").read_text()
    assert "train_views" not in page
    client = MlflowClient(tracking_uri=f"sqlite:///{out.parent / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "unsee"]
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`mlflow.runName` = 'vkd photos'")
    assert parent.data.params["benchmark_source"] == str(out.parents[1] / "benchmark")
    assert not any(name.startswith("benchmark.") for name in parent.data.params)


def test_the_report_shows_the_person_and_their_photographs(out):
    page = (out / "report.html").read_text()
    assert NAME in page
    assert page.count("data:image/") >= 2
    assert f'alt="Portrait of {NAME}"' in page
    assert f'alt="Unseen photograph of {NAME}"' in page
