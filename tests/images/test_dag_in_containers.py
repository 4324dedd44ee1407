"""`unsee run --runner docker`: the whole DAG in containers of the step image, against a real S3 and MLflow server.

What is checked is what the containers left behind. That one of them ended well is only what KFP says.
"""

import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.images import Image
from mlflow import MlflowClient
from mlflow.entities import Run
from reduced import command, environment

from unsee.benchmark import embedded
from unsee.sections import BenchmarkSettings
from unsee.storage import artifact, transfer
from unsee_components import IMAGE
from unsee_pipelines.containers import LABEL, USER

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
MODELS = ("vanilla", "retrained", "unlearned")
STEPS = {
    "prepare-benchmark", "build-vanilla", "build-retrained", "collect-statistics", "prune", "unlearn", "report",
    "register", *(f"{step}-{model}" for step in ("evaluate", "relearn") for model in MODELS),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A directory of runs, and the servers that they use."""

    directory: Path
    servers: dict[str, str]

    def start(self, name: str, *settings: str, **options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(self.directory / name, *settings, runner="docker", **options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**self.servers),
            # As a person starts it: what a shell runs in the background ignores interrupts.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, name: str, *settings: str, **options: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        run = self.start(name, *settings, **options)
        printed, told = run.communicate()
        return run.returncode, printed, told

    def tracked(self, name: str) -> tuple[Run, dict[str, Run]]:
        """The MLflow run of a run, and the nested ones by their steps."""
        client = MlflowClient(self.servers["MLFLOW_TRACKING_URI"])
        (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "unsee"]
        (parent,) = client.search_runs([experiment], f"tags.`mlflow.runName` = 'vkd {name}'")
        nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        return parent, {run.info.run_name: run for run in nested}


@pytest.fixture(scope="module")
def place(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("runs"), servers)


@pytest.fixture(scope="module")
def finished(place: Place) -> Path:
    """The output directory of a finished run."""
    code, _, told = place.run("first")
    assert code == 0, told
    return place.directory / "first"


def test_every_step_left_a_whole_artifact_and_nothing_runs_as_root(finished: Path) -> None:
    manifests = list((finished.parent / ".unsee" / "artifacts").rglob("manifest.json"))
    kinds = [json.loads(manifest.read_text())["kind"] for manifest in manifests]
    for manifest, kind in zip(manifests, kinds, strict=True):
        artifact.read(manifest.parent, kind)
    assert sorted(kinds) == sorted(
        ["benchmark", "statistics", "pruning", "report", "registration"]
        + ["model", "evaluation", "relearning"] * 3
    )  # fmt: skip
    assert {manifest.stat().st_uid for manifest in manifests} == {USER if os.getuid() == 0 else os.getuid()}


def test_results_name_the_image_that_they_were_made_in(finished: Path, image: Image) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["versions"]["image"] == image.id
    assert set(summary["models"]) == {"vanilla", "retrained", "unlearned"}
    assert image.id in (finished / "report.html").read_text()


def test_mlflow_has_every_step_the_image_and_its_bill_of_materials(
    finished: Path, place: Place, image: Image, inside: Callable[..., str], tmp_path: Path
) -> None:
    parent, steps = place.tracked("first")
    assert steps.keys() == STEPS
    assert {run.info.status for run in (parent, *steps.values())} == {"FINISHED"}
    assert "forget/vqa/heldout_accuracy" in parent.data.metrics
    assert parent.data.tags["unsee.image"] == image.id
    client = MlflowClient(place.servers["MLFLOW_TRACKING_URI"])
    bill = Path(client.download_artifacts(parent.info.run_id, "sbom.cdx.json", str(tmp_path)))
    assert sha256(bill.read_bytes()).hexdigest() in inside("-c", 'sha256sum "$UNSEE_SBOM"', entrypoint="sh")


def test_the_registered_models_lie_whole_in_s3(
    finished: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.servers.items():
        monkeypatch.setenv(name, value)
    registered = json.loads((finished / "registration.json").read_text())["models"]
    assert registered.keys() == {"vanilla", "unlearned"}
    for name, model in registered.items():
        assert model["source"].startswith(f"{place.servers['UNSEE_STORE']}/model/")
        assert transfer.download(model["source"], tmp_path / name, "model").digest == model["sha256"]


def test_no_credential_is_in_what_a_run_leaves(finished: Path, place: Place) -> None:
    secrets = [place.servers[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    files = [path for path in finished.parent.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_stops_its_container_which_cleans_up(
    finished: Path, place: Place, engine: DockerClient, number: signal.Signals
) -> None:
    run = place.start(number.name, "unlearn.epochs=100000")
    assert any("] collect-statistics cached" in line for line in run.stdout)
    assert any("        unlearning" in line for line in run.stdout)
    assert len(engine.containers.list(filters={"label": LABEL})) == 1
    run.send_signal(number)
    assert run.wait(timeout=60) == 128 + number
    assert engine.containers.list(filters={"label": LABEL}) == []
    parent, steps = place.tracked(number.name)
    assert (parent.info.status, steps["unlearn"].info.status) == ("FAILED", "KILLED")


def test_a_given_benchmark_is_read_where_it_lies_and_a_step_s_own_reason_is_told(place: Place, tmp_path: Path) -> None:
    given = tmp_path / "given"
    embedded.generate(BenchmarkSettings(forget=2, retain=3, train_views=2, heldout_views=1, seed=1), given)
    code, printed, told = place.run("given", "vanilla.base=/nowhere", benchmark=str(given))
    assert "prepare-benchmark done" in printed
    assert (code, told.startswith("unsee: vanilla.base = '/nowhere'")) == (2, True)


def test_a_base_that_containers_could_not_find_is_refused(place: Place, tmp_path: Path) -> None:
    relative = os.path.relpath(tmp_path)
    code, _, told = place.run("relative", f"vanilla.base={relative}")
    assert (code, told) == (2, f"unsee: containers need {relative} by its whole path; write {tmp_path}\n")


@pytest.fixture
def restored(image: Image) -> Iterator[None]:
    """The image has its name again at the end."""
    image.tag("unsee:kept")
    yield
    image.tag(IMAGE)


@pytest.mark.usefixtures("restored")
def test_a_container_that_ends_well_without_its_outputs_has_failed(place: Place, engine: DockerClient) -> None:
    dockerfile = f"FROM {IMAGE}\nUSER root\nRUN ln -sf /bin/true /bin/sh\nUSER {USER}\n"
    engine.images.build(fileobj=io.BytesIO(dockerfile.encode()), network_mode="none", rm=True, tag=IMAGE)
    code, _, told = place.run("hollow")
    assert code == 1
    assert re.match(r"unsee: step resolve-settings ended with .* \(without its outputs\)", told)
    assert not (place.directory / "hollow" / "summary.json").exists()
    assert place.tracked("hollow")[0].info.status == "FAILED"


@pytest.mark.usefixtures("restored")
def test_an_image_that_is_missing_is_fetched_from_nowhere(place: Place, engine: DockerClient) -> None:
    engine.images.remove(IMAGE)
    code, _, told = place.run("missing")
    assert (code, told) == (2, f"unsee: image {IMAGE} is not on this machine; make image builds it\n")
