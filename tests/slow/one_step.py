"""Run one step in a process of its own, for tests that kill it: `one_step.py MODULE ARGUMENTS-AS-JSON`."""

import importlib
import json
import sys
from typing import get_type_hints

from pydantic import TypeAdapter

from unsee.tracking import NoTracker


def main(module: str, arguments: str) -> None:
    """Call the step's `run`; JSON becomes what its signature says, from settings to paths."""
    run = importlib.import_module(f"unsee.steps.{module}").run
    types = get_type_hints(run)
    given = {name: TypeAdapter(types[name]).validate_python(value) for name, value in json.loads(arguments).items()}
    run(**given, tracker=NoTracker())


if __name__ == "__main__":
    main(*sys.argv[1:])
