"""Step compare_report: methods compared over seeds, as comparison.json and .csv for programs, a page for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unsee.comparison.reports import make_report
from unsee.comparison.seeds import read_seeds
from unsee.comparison.summary import build_comparison, csv_of, shown_metrics
from unsee.storage import artifact
from unsee.tracking import Tracker
from unsee.tracking.mlflow import log_to_parent


def run(
    seeds: Sequence[Path],
    report: str,
    out: Path,
    tracker: Tracker,
    searched: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, float]:
    """Write `comparison.json`, `comparison.csv` and the files of the report to `out`.

    Args:
        seeds: comparison-seed artifacts; metrics and files also go to the MLflow parent.
        report: one of `unsee.comparison.reports.PAGES`.
        searched: what the settings of each method were to be chosen from (`resolve_settings.searched`), if known.

    Returns:
        Each method's mean distance to the retrained model and what the people who stay lost.

    Raises:
        UserError: an incomplete or damaged artifact, or seeds that cannot be compared, or not be reported so.
    """
    found = read_seeds(seeds)
    comparison = build_comparison(found)
    for name, method in comparison["methods"].items():
        method["searched"] = (searched or {}).get(name, {})
    made = make_report(report, comparison)
    with artifact.create(out, "comparison", {"seeds": comparison["seeds"], "methods": list(comparison["methods"])}):
        artifact.write_json(out / "comparison.json", {**comparison, "headline": made.headline})
        artifact.write_bytes(out / "comparison.csv", csv_of(found).encode())
        for name, text in made.files.items():
            artifact.write_bytes(out / name, text.encode())
    shown = shown_metrics(comparison)
    tracker.log_metrics(shown)
    log_to_parent(shown, artifacts=[out / name for name in ("comparison.json", "comparison.csv", *made.files)])
    return shown
