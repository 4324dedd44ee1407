"""Write README.md, the parameters that a form of the KFP UI asks for: `python -m unsee_pipelines.readme`."""

import json
from pathlib import Path

from kfp.dsl.graph_component import GraphComponent

from unsee_pipelines.compile import PIPELINES

FILE = Path(__file__).with_name("README.md")
HEAD = """# Pipelines

What the KFP UI asks for when one is started there, and what `--param NAME=VALUE` sets when `unsee pipeline submit` or
`schedule` starts it. Lists and objects are JSON.

`compiled/` holds what can be uploaded in the UI as it is. `unsee pipeline compile` puts in another image, a timeout,
the size of `/dev/shm`, or how many trainings run at a time.
"""


def readme() -> str:
    """The text of README.md."""
    return "\n".join([HEAD, *(_section(name, pipeline) for name, pipeline in PIPELINES.items())])


def _section(name: str, pipeline: GraphComponent) -> str:
    rows = [
        f"| `{parameter}` | {spec.type.lower()} | `{json.dumps(spec.default)}` | {' '.join(spec.description.split())} |"
        for parameter, spec in pipeline.component_spec.inputs.items()
    ]
    table = "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows])
    return f"## {name}\n\n{pipeline.description}\n\n{table}\n"


if __name__ == "__main__":
    FILE.write_text(readme())
