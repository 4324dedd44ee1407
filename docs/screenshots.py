"""Pictures of MLflow's pages of the last two runs, for the README: `python docs/screenshots.py`.

MLFLOW_TRACKING_URI names the server; Chromium opens the pages.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from unsee.tracking.mlflow import EXPERIMENT, PARENT_TAG

SIZE = (1500, 2050)
MENU, ASSISTANT = 198, 390  # pixels at the left and right that are not the page
COLOURS = 256
MILLISECONDS_TO_LOAD = 25_000


def run_page(client: MlflowClient, run: Run) -> str:
    """Address of a run."""
    return f"{client.tracking_uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def compare_page(client: MlflowClient, runs: Sequence[Run]) -> str:
    """Address of the comparison of runs of one experiment."""
    asked = {"runs": [run.info.run_id for run in runs], "experiments": [runs[0].info.experiment_id]}
    return f"{client.tracking_uri}/#/compare-runs?{urlencode({name: json.dumps(ids) for name, ids in asked.items()})}"


def opened(address: str, *options: str) -> str:
    """Open a page in a browser and let it load; what the browser prints with these options."""
    with TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", "--window-size={},{}".format(*SIZE)]
        command += [f"--virtual-time-budget={MILLISECONDS_TO_LOAD}", *options, address]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


def take(address: str, file: Path) -> None:
    """Take a picture of a page without what is beside it."""
    opened(address, f"--screenshot={file.resolve()}")
    with Image.open(file) as whole:
        page = whole.convert("RGB").crop((MENU, 0, whole.width - ASSISTANT, whole.height))
    page.quantize(COLOURS).save(file, optimize=True)


def main() -> None:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    newest, before, *_ = (run for run in runs if PARENT_TAG not in run.data.tags)
    take(run_page(client, newest), Path("docs/mlflow-run.png"))
    take(compare_page(client, [before, newest]), Path("docs/mlflow-compare.png"))


if __name__ == "__main__":
    main()
