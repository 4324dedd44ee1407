"""Step compare_report: methods compared over seeds, as comparison.json and .csv for programs and a page for people."""

from collections.abc import Sequence
from pathlib import Path

from unsee.comparison import page
from unsee.comparison.seeds import read_seeds
from unsee.comparison.summary import build_comparison, csv_of, shown_metrics
from unsee.comparison.verdict import headline
from unsee.storage import artifact
from unsee.tracking import Tracker
from unsee.tracking.mlflow import log_to_parent

FILES = ("comparison.json", "comparison.csv", "report.html")


def run(seeds: Sequence[Path], out: Path, tracker: Tracker) -> dict[str, float]:
    """Write `comparison.json`, `comparison.csv` and `report.html` to `out`.

    Args:
        seeds: comparison-seed artifacts; metrics and files also go to the MLflow parent.

    Returns:
        Each method's mean distance to the retrained model and what the people who stay lost.

    Raises:
        UserError: an incomplete or damaged artifact, or seeds that cannot be compared.
    """
    found = read_seeds(seeds)
    comparison = build_comparison(found)
    with artifact.create(out, "comparison", {"seeds": comparison["seeds"], "methods": list(comparison["methods"])}):
        artifact.write_json(out / "comparison.json", {**comparison, "headline": headline(comparison)})
        artifact.write_bytes(out / "comparison.csv", csv_of(found).encode())
        artifact.write_bytes(out / "report.html", page.render(comparison).encode())
    shown = shown_metrics(comparison)
    tracker.log_metrics(shown)
    log_to_parent(shown, artifacts=[out / name for name in FILES])
    return shown
