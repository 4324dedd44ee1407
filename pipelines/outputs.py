"""What a step left. KFP's DockerRunner takes a container that is gone before it looks for a successful one
(kubeflow/pipelines #13332), so that its word alone does not do."""

import json
import re
from pathlib import Path

from unsee.storage.artifact import MANIFEST

LOOP = re.compile(r"for-loop-\d+-iteration-\d+")


def is_complete(root: Path, task: str) -> bool:
    """Whether the task, and each iteration of it, wrote all that its executor lists; directories have manifests."""
    listed = [path / "executor_output.json" for path in root.rglob(task) if _is_step(path.relative_to(root))]
    return bool(listed) and all(file.is_file() and all(map(_is_whole, _artifacts(file))) for file in listed)


def _is_step(path: Path) -> bool:
    """Whether KFP's local engine lets a step work there: below its pipeline, and the iterations of loops around it."""
    return all(LOOP.fullmatch(part) for part in path.parts[1:-1])


def _artifacts(executor_output: Path) -> list[Path]:
    outputs = json.loads(executor_output.read_text()).get("artifacts", {})
    return [Path(artifact["uri"]) for output in outputs.values() for artifact in output["artifacts"]]


def _is_whole(path: Path) -> bool:
    return path.is_file() or (path / MANIFEST).is_file()
