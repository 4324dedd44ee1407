"""Looking at model directories: what one holds, what a delta makes of its base, how two models differ.

A delta must be a complete, undamaged artifact. A full model may come from anywhere; a manifest, if it has one, must
agree.
"""

import json
from pathlib import Path

import torch

from unsee.mllm import checkpoint
from unsee.mllm.families import Mllm
from unsee.storage import artifact
from unsee.storage.artifact import write_json


def describe(path: Path) -> str:
    """What a model directory holds, in a few lines. Raises UserError if it is no model, or damaged."""
    _verify(path)
    if not checkpoint.is_delta(path):
        mllm = checkpoint.load_full(path)
        sizes = {
            "tower": sum(p.numel() for layer in mllm.tower_layers for p in layer.parameters()),
            "projector": sum(p.numel() for p in mllm.projector.parameters()),
            "LLM": sum(p.numel() for p in mllm.language_model.parameters()),
        }
        lines = [f"full {mllm.model.config.model_type} model, weights sha256 {checkpoint.weights_digest(path)}"]
        return "\n".join([*lines, *(f"  {name}: {size:,} parameters" for name, size in sizes.items())])
    facts = json.loads((path / checkpoint.DELTA_FACTS).read_text())
    lines = [
        f"delta by {facts['method']}, seed {facts['seed']}, {len(facts['changed'])} changed tensors ({facts['dtype']})",
        f"  on {facts['base']['uri']}",
        f"  base sha256 {facts['base']['sha256']}",
    ]
    return "\n".join([*lines, *(f"  {name}" for name in facts["changed"])])


def merge(path: Path, base: Path | None, out: Path) -> None:
    """Write a full Hugging Face folder from a delta and its base.

    Raises:
        UserError: a damaged delta, a wrong or missing base, or `out` holds something else.
    """
    mllm = _load(path, base)
    with artifact.create(out, "model", {"merged_from": str(path)}):
        checkpoint.save_full(mllm, out)
        write_json(out / "history.json", [])


def diff(first: Path, second: Path, base: Path | None = None) -> str:
    """Which tensors two models do not share, and by how much they differ.

    Args:
        base: where the base of a delta among them lies, if not where it was.

    Raises:
        UserError: a damaged model, or a wrong or missing base.
    """
    left, right = (_load(path, base).model.state_dict() for path in (first, second))
    changed = checkpoint.changed_tensors(left, right)
    lines = [f"{len(changed)} of {len(left)} tensors differ"]
    for name, tensor in changed.items():
        share = float((tensor != right[name]).float().mean())
        norm = float(torch.linalg.vector_norm(tensor - right[name]) / torch.linalg.vector_norm(right[name]))
        lines.append(f"  {name}: {share:.1%} of its entries, relative distance {norm:.3f}")
    return "\n".join(lines)


def _load(path: Path, base: Path | None) -> Mllm:
    _verify(path)
    return checkpoint.load(path, base)


def _verify(path: Path) -> None:
    if checkpoint.is_delta(path) or (path / artifact.MANIFEST).exists():
        artifact.read(path, "model")
