"""Compile the DAGs to the YAML that KFP takes. The goldens in compiled/ are what people upload in its UI."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from unsee.errors import UserError
from unsee_components import IMAGE
from unsee_pipelines.compare import comparison
from unsee_pipelines.continual import continual
from unsee_pipelines.sweep import sweep
from unsee_pipelines.tasks import SHARED_MEMORY, TIMEOUT
from unsee_pipelines.unlearn import unlearning

COMPILED = Path(__file__).parent / "compiled"
PIPELINES: dict[str, GraphComponent] = {
    "unlearn": unlearning,
    "compare": comparison,
    "sweep": sweep,
    "continual": continual,
}
QUANTITY = re.compile(r"^[1-9]\d*([kMGT]|[KMGT]i)$")
HOUR = 3600


@dataclass(frozen=True)
class Fixed:
    """What KFP wants to know when compiling, and takes from no parameter of a run.

    image: of the steps, best given with its digest. hours: that one attempt at a step may take. shared_memory: of a
    step that holds a model, which counts as its memory. parallelism: seeds at a time, and methods at a time of each.

    Raises:
        UserError: no image reference, or no quantity of memory.
    """

    image: str = IMAGE
    hours: int = TIMEOUT // HOUR
    shared_memory: str = SHARED_MEMORY
    parallelism: int = 1

    def __post_init__(self) -> None:
        if not self.image or any(character.isspace() for character in self.image):
            raise UserError(f"--image {self.image!r} is no image reference; write e.g. registry.example/unsee@sha256:…")
        if not QUANTITY.match(self.shared_memory):
            raise UserError(f"--shared-memory {self.shared_memory!r} is no quantity; write e.g. {SHARED_MEMORY}")

    def into(self, yaml: str) -> str:
        """Put these values in the place of those that stand in the code."""
        for standing, wanted in (
            (f"image: {IMAGE}", f"image: {self.image}"),
            (f"value: {IMAGE}", f"value: {self.image}"),
            (f"activeDeadlineSeconds: '{TIMEOUT}'", f"activeDeadlineSeconds: '{self.hours * HOUR}'"),
            (f"sizeLimit: {SHARED_MEMORY}", f"sizeLimit: {self.shared_memory}"),
            ("parallelismLimit: 1", f"parallelismLimit: {self.parallelism}"),
        ):
            yaml = yaml.replace(f"{standing}\n", f"{wanted}\n")
        return yaml


def compile_all(out: Path = COMPILED, fixed: Fixed | None = None, names: Iterable[str] = ()) -> dict[str, Path]:
    """Write `<name>.yaml` for the DAGs of these names into `out`, for all of them if none is given.

    Raises:
        UserError: an unknown name.
    """
    chosen = [*names] or [*PIPELINES]
    for name in chosen:
        require_known(name)
    out.mkdir(parents=True, exist_ok=True)
    return {name: _compile(PIPELINES[name], out / f"{name}.yaml", fixed or Fixed()) for name in chosen}


def require_known(name: str) -> None:
    """Raises UserError if there is no pipeline of this name."""
    if name not in PIPELINES:
        raise UserError(f"there is no pipeline {name!r}; there are {', '.join(PIPELINES)}")


def _compile(pipeline: GraphComponent, path: Path, fixed: Fixed) -> Path:
    compiler.Compiler().compile(pipeline, str(path))
    path.write_text(fixed.into(path.read_text()))
    return path
