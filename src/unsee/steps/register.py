"""Step register: the weights before and after unlearning as versions of one registered MLflow model.

Both are versions of `unsee-<preset>`. The newest vanilla carries the alias `vanilla`, the newest unlearned one
`candidate`, unless its verdict is `not_forgotten`; `champion` is for a person to set, after reading the report, or for
the pipeline that answers deletion requests, which measures more (`unsee.requests.requirements`). The
unlearned version is a delta: its tags `base_version` and `base_sha256` are the vanilla version it changes and the
sha256 of that one's weights, as delta.json has it. Method, seed, forget request and verdict are tags of the unlearned
version alone: several runs share a vanilla model. Files that lie on this machine are first uploaded to the store that
UNSEE_STORE names (s3://bucket/prefix), if it is set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unsee.storage import artifact
from unsee.storage.transfer import published
from unsee.tracking import Tracker
from unsee.tracking.mlflow import is_configured, parent_run_id
from unsee.tracking.registry import register_version

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
        vanilla_uri: where MLflow reaches the vanilla files (s3://…); anything local or empty: UNSEE_STORE, if set, or
            the directory itself.
        unlearned_uri: the same for the unlearned files.

    Returns:
        How many versions are registered.

    Raises:
        UserError: an incomplete artifact, or a store that takes none of the sources.
    """
    for path, kind in ((summary, "report"), (vanilla, "model"), (unlearned, "model")):
        artifact.read(path, kind, verify=kind != "model")
    facts = json.loads((summary / "summary.json").read_text())
    with artifact.create(out, "registration", {"preset": preset}):
        if not is_configured():
            artifact.write_json(out / "registration.json", {"models": {}, "reason": UNTRACKED})
            return {"registered_versions": 0.0}
        reason = _no_candidate(facts["verdict"])
        places = {"vanilla": (vanilla, vanilla_uri), "unlearned": (unlearned, unlearned_uri)}
        registered = register_models(preset, facts, places, [] if reason else ["candidate"])
        artifact.write_json(out / "registration.json", {"models": registered, "reason": reason})
    tracker.log_params({model: version["uri"] for model, version in registered.items()})
    return {"registered_versions": float(len(registered))}


def register_models(
    preset: str, facts: Mapping[str, Any], places: Mapping[str, tuple[Path, str]], aliases: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Register vanilla and unlearned, and point `aliases` at the unlearned version.

    Args:
        facts: a summary with its verdict's status.
        places: directory and address of each, as `run` takes them.

    Returns:
        Name, version, source, aliases, uri (`models:/name/version`) and sha256 of each.
    """
    name, run_id, tags = f"unsee-{preset}", parent_run_id(), _tags(preset, facts)
    sources = {model: published(directory, "model", uri) for model, (directory, uri) in places.items()}
    digests = {m: artifact.read(directory, "model", verify=False).digest for m, (directory, _) in places.items()}
    base = json.loads((places["unlearned"][0] / "delta.json").read_text())["base"]
    before = register_version(
        name, sources["vanilla"], digests["vanilla"], {**tags, "kind": "vanilla"}, ["vanilla"], run_id
    )
    tags |= {**_unlearned_tags(facts), "base_version": before.uri, "base_sha256": base["sha256"]}
    after = register_version(name, sources["unlearned"], digests["unlearned"], tags, aliases, run_id)
    return {
        model: {**asdict(version), "uri": version.uri, "sha256": digests[model]}
        for model, version in {"vanilla": before, "unlearned": after}.items()
    }


def _no_candidate(verdict: Mapping[str, Any]) -> str | None:
    """Why the unlearned version must not become the candidate, if so."""
    if verdict["status"] != "not_forgotten":
        return None
    return f"the alias candidate was not moved to this run's unlearned model: {verdict['headline']}"


def _tags(preset: str, summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "preset": preset,
        "benchmark": summary["benchmark"]["name"],
        "benchmark_digest": summary["benchmark"]["digest"],
        "unsee_version": summary["versions"]["unsee"],
    }


def _unlearned_tags(summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "kind": "unlearned",
        "method": summary["method"],
        "seed": str(summary["seed"]),
        "forget_people": str(len(summary["forget"])),
        "verdict": summary["verdict"]["status"],
    }
