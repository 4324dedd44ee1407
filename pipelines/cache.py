"""KFP's local cache checks that an artifact's path exists, not what it holds."""

import json
from pathlib import Path
from typing import Any

from unsee.errors import UserError
from unsee.storage import artifact


def drop_damaged(cache: Path) -> None:
    """Forget cached results that are none, or whose artifacts lost or changed a file: the next run makes them anew."""
    for entry in cache.glob("*.json"):
        outputs = json.loads(entry.read_text())
        if not outputs or not all(_whole(directory) for directory in _directories(outputs)):
            entry.unlink()


def _directories(outputs: dict[str, Any]) -> list[Path]:
    paths = [Path(output["uri"]) for output in outputs.values() if isinstance(output, dict) and "uri" in output]
    return [path for path in paths if path.is_dir()]


def _whole(directory: Path) -> bool:
    try:
        kind = json.loads((directory / artifact.MANIFEST).read_text())["kind"]
        artifact.read(directory, kind)
    except (UserError, OSError, ValueError, KeyError):
        return False
    return True
