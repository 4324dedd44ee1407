"""Compile the DAGs to the YAML that KFP takes. The goldens in compiled/ are what people upload in its UI."""

from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent

from unsee.errors import UserError
from unsee_components import IMAGE
from unsee_pipelines.compare import comparison
from unsee_pipelines.unlearn import unlearning

COMPILED = Path(__file__).parent / "compiled"
PIPELINES: dict[str, GraphComponent] = {"unlearn": unlearning, "compare": comparison}


def compile_all(out: Path = COMPILED, image: str = IMAGE) -> list[Path]:
    """Write `<name>.yaml` for every DAG into `out`, its steps running `image`, best given with its digest.

    Raises:
        UserError: `image` is no image reference.
    """
    if not image or any(character.isspace() for character in image):
        raise UserError(f"--image {image!r} is no image reference; write e.g. registry.example/unsee@sha256:…")
    out.mkdir(parents=True, exist_ok=True)
    return [_compile(pipeline, out / f"{name}.yaml", image) for name, pipeline in PIPELINES.items()]


def _compile(pipeline: GraphComponent, path: Path, image: str) -> Path:
    compiler.Compiler().compile(pipeline, str(path))
    path.write_text(path.read_text().replace(f": {IMAGE}\n", f": {image}\n"))
    return path
