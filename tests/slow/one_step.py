"""Run one step in a process of its own, for tests that kill it: `one_step.py MODULE ARGUMENTS-AS-JSON`."""

import importlib
import json
import sys
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from unsee.sections import UnlearnSettings
from unsee.tracking import NoTracker
from unsee.unlearning.method import settings_of


def main(module: str, arguments: str) -> None:
    """Call the step's `run`; JSON becomes what its signature says, from settings to paths."""
    run = importlib.import_module(f"unsee.steps.{module}").run
    types = get_type_hints(run)
    given = {name: _read(types[name], value) for name, value in json.loads(arguments).items()}
    run(**given, tracker=NoTracker())


def _read(wanted: Any, value: Any) -> Any:
    return settings_of(value) if wanted is UnlearnSettings else TypeAdapter(wanted).validate_python(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
