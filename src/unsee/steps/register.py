"""Step register: the weights before and after unlearning as versions of one registered MLflow model.

Both are versions of `unsee-<preset>`. The newest vanilla carries the alias `vanilla`, the newest unlearned one
`candidate`; `champion` is for a person to set, after reading the report. The unlearned version is a delta: its tag
`base_sha256` names the vanilla version it changes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unsee.storage import artifact
from unsee.tracking import Tracker
from unsee.tracking.mlflow import is_configured, parent_run_id, register_version

ALIASES = {"vanilla": "vanilla", "unlearned": "candidate"}
UNTRACKED = "no MLflow store is configured; set MLFLOW_TRACKING_URI to have the models registered"


def run(
    *,
    preset: str,
    vanilla: Path,
    unlearned: Path,
    summary: Path,
    out: Path,
    tracker: Tracker,
    vanilla_uri: str = "",
    unlearned_uri: str = "",
) -> dict[str, float]:
    """Register both models and write `registration.json`; without a store it says so and registers nothing.

    Args:
        preset: names the registered model.
        vanilla: model artifact before unlearning.
        unlearned: model artifact (a delta) after unlearning.
        summary: report artifact.
        out: where the registration artifact goes.
        tracker: receives what was registered.
        vanilla_uri: where the store reaches the vanilla files (s3://…); anything local or empty: the directory itself.
        unlearned_uri: the same for the unlearned files.

    Returns:
        How many versions are registered.

    Raises:
        UserError: an incomplete artifact, or a store that takes none of the sources.
    """
    artifact.read(summary, "report")
    facts = json.loads((summary / "summary.json").read_text())
    directories = {"vanilla": vanilla, "unlearned": unlearned}
    digests = {model: artifact.read(path, "model", verify=False).digest for model, path in directories.items()}
    with artifact.create(out, "registration", {"preset": preset}):
        if not is_configured():
            artifact.write_json(out / "registration.json", {"models": {}, "reason": UNTRACKED})
            return {"registered_versions": 0.0}
        sources = {"vanilla": _source(vanilla, vanilla_uri), "unlearned": _source(unlearned, unlearned_uri)}
        registered = _register(f"unsee-{preset}", sources, digests, _lineage(preset, facts))
        artifact.write_json(out / "registration.json", {"models": registered, "reason": None})
    tracker.log_params({model: version["uri"] for model, version in registered.items()})
    return {"registered_versions": float(len(registered))}


def _register(
    name: str, sources: Mapping[str, Path | str], digests: Mapping[str, str], lineage: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    registered = {}
    for model, source in sources.items():
        tags = {**lineage, "kind": model}
        if model == "unlearned":
            tags["base_sha256"] = digests["vanilla"]
        version = register_version(name, source, digests[model], tags, [ALIASES[model]], parent_run_id())
        registered[model] = {**asdict(version), "uri": version.uri, "sha256": digests[model]}
    return registered


def _lineage(preset: str, summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "preset": preset,
        "method": summary["method"],
        "seed": str(summary["seed"]),
        "forget_people": str(len(summary["forget"])),
        "benchmark": summary["benchmark"]["name"],
        "benchmark_digest": summary["benchmark"]["digest"],
        "unsee_version": summary["versions"]["unsee"],
    }


def _source(directory: Path, uri: str) -> Path | str:
    return uri if "://" in uri and not uri.startswith("file://") else directory
