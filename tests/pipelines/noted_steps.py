"""DAGs by KFP's local engine and its cache, each step replaced by one that notes what it is given."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp.dsl.graph_component import GraphComponent
from kfp.local import SubprocessRunner

from unsee.environment import environment
from unsee_pipelines import local
from unsee_pipelines.engine import step_names
from unsee_pipelines.transcript import Transcript, everything_into

STEP = """
import json, os, pathlib, sys  # in place of kfp.dsl.executor_main
told = json.loads(sys.argv[-1])
given, outputs = told["inputs"].get("parameterValues", {}), told["outputs"]
place = pathlib.Path(outputs["outputFile"])
place.parent.mkdir(parents=True, exist_ok=True)
for found in outputs.get("artifacts", {}).values():
    pathlib.Path(found["artifacts"][0]["uri"]).touch()
values = {name: {} if name == "sections" else name for name in outputs.get("parameters", {})}
if "of_seed" in values:
    values |= {"of_seed": f", seed {given['seed']}", "of_method": f" {given['method']}, seed {given['seed']}"}
    values |= json.loads(os.environ["SECTIONS"])
place.write_text(json.dumps({"parameterValues": values, "artifacts": outputs.get("artifacts", {})}))
lists = {name: len(found["artifacts"]) for name, found in told["inputs"].get("artifacts", {}).items()}
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps([place.parent.name, given, lists]) + "\\n")
"""
"""Its outputs have no content, but for the sections of settings."""


def execute(
    dag: GraphComponent, arguments: Mapping[str, Any], root: Path, run: str, sections: Mapping[str, str] | None = None
) -> None:
    """Run the DAG below `root`, with the cache of earlier runs there.

    Args:
        run: by which its notes are found.
        sections: of settings, that its first step resolves.
    """
    place = local.Workplace(root / "out")
    place.cache.mkdir(parents=True, exist_ok=True)
    spec = local.PipelineSpec()
    spec.CopyFrom(dag.pipeline_spec)
    for executor in spec.deployment_spec["executors"].values():
        executor["container"].update({"command": ["python3", "-c", STEP], "args": ["{{$}}"]})
    names = step_names(spec)
    transcript = Transcript(names, io.StringIO(), io.StringIO(), lambda step: None, len(names), lambda task: True)
    variables = {"NOTES": str(root / f"{run}.txt"), "SECTIONS": json.dumps(dict(sections or {}))}
    with everything_into(transcript), environment(variables):
        of_kfp = SubprocessRunner(use_venv=False)
        local._execute(spec, arguments, root / run / "artifacts", place, transcript, of_kfp)


def noted(root: Path, run: str) -> dict[str, list[tuple[dict, dict]]]:
    """Task -> parameters, and how many artifacts of each kind, of every time it ran."""
    found: dict[str, list[tuple[dict, dict]]] = {}
    for task, given, lists in map(json.loads, (root / f"{run}.txt").read_text().splitlines()):
        found.setdefault(task, []).append((given, lists))
    return found
