"""What a step left. KFP's DockerRunner takes a container that is gone before it looks for a successful one
(kubeflow/pipelines #13332), so that its word alone does not do."""

import json
from pathlib import Path

from unsee.storage.artifact import MANIFEST


def is_complete(root: Path, task: str) -> bool:
    """Whether the task, and each iteration of it, wrote all that its executor lists; directories have manifests."""
    listed = [directory / "executor_output.json" for directory in root.glob(f"*/{task}")]
    return bool(listed) and all(file.is_file() and all(map(_is_whole, _artifacts(file))) for file in listed)


def _artifacts(executor_output: Path) -> list[Path]:
    outputs = json.loads(executor_output.read_text()).get("artifacts", {})
    return [Path(artifact["uri"]) for output in outputs.values() for artifact in output["artifacts"]]


def _is_whole(path: Path) -> bool:
    return path.is_file() or (path / MANIFEST).is_file()
