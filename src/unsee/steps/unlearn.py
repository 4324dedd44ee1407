"""Unlearn: make the vanilla model forget by one of the methods, and store what changed."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from unsee.benchmark.schema import ForgetRequest, load
from unsee.launching import in_processes
from unsee.mllm import checkpoint
from unsee.mllm.places import places
from unsee.mllm.rows import ImageBank
from unsee.parallel import main_goes_on
from unsee.pruning import Pruned
from unsee.sections import PruneSettings, UnlearnSettings
from unsee.settings import require_layers
from unsee.statistics.fisher import Fisher
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Work
from unsee.unlearning.saliency import SaliencyMask
from unsee.unlearning.trainer import Unlearning

QUESTION_SETS = ("forget_vqa", "retain_vqa")


@in_processes
def run(
    settings: UnlearnSettings,
    benchmark: Path,
    forget: Sequence[str],
    model: Path,
    statistics: Path,
    pruning: Path,
    retrained: Path | None,
    out: Path,
    tracker: Tracker,
) -> dict[str, float | None]:
    """Write the unlearned model to `out` as a delta on the vanilla one. Returns the last losses and what it cost.

    Beside it `history.json`, `mask.json` (null for a method without a mask) and `pruned.json`: the neurons removed.

    Args:
        retrained: the reference model, for methods that need it.

    Raises:
        UserError: an incomplete or damaged input, nothing asked about the forget or the retain people, more layers
            asked for than feed the projector, or a dead mask.
        TrainingFailure: a loss became NaN or infinite.
    """
    kinds = [(benchmark, "benchmark"), (model, "model"), (statistics, "statistics"), (pruning, "pruning")]
    inputs = [artifact.read(path, kind) for path, kind in [*kinds, *([(retrained, "model")] if retrained else [])]]
    data = load(benchmark, verify=False)
    request = ForgetRequest.resolve(data, forget)
    request.require_training(data, by_name=settings.scope == "full")
    mllm = open_model(model, None, settings.compute)
    require_layers("unlearn.layers", settings.layers, len(mllm.tower_layers))
    work = Work(
        settings=settings,
        mllm=mllm,
        bank=ImageBank(mllm, data),
        benchmark=data,
        request=request,
        pruned={int(k.removeprefix("layers.")): t for k, t in load_file(pruning / "pruned.safetensors").items()},
        pruning=PruneSettings.model_validate(inputs[3].facts["settings"]),
        fisher=read_fisher(statistics),
        fisher_unit=inputs[2].facts["settings"]["fisher_unit"],
        retrained=retrained,
    )
    digests = [each.digest for each in inputs]
    checkpoints = Checkpoints.of("unlearn", settings.model_dump(), mllm.compute.facts, request.forget, digests)
    facts: dict[str, Any] = {"settings": settings.model_dump(), "forget": list(request.forget)}
    facts["compute"] = mllm.compute.facts
    with artifact.create(out, "model", facts):
        unlearning = Unlearning.of(work, checkpoints, tracker)
        curve = unlearning.run()
        main_goes_on()
        checkpoint.save_delta(
            mllm, model, out, method=settings.method, seed=settings.seed, config=settings.model_dump()
        )
        write_json(out / "history.json", curve)
        write_json(out / "pruned.json", _removed(unlearning.pruned))
        found = _write_mask(unlearning.mask, places(mllm), out)
        facts["cost"] = cost = unlearning.cost
        facts["told"] = dict(unlearning.told)
    checkpoints.clear()
    tracker.log_params({**settings.model_dump(), **({"d_F": found["d_F"]} if "d_F" in found else {})})
    losses = {k: v for k, v in curve[-1].items() if k != "step"} if curve else {}
    return {**losses, **found, **cost, **unlearning.told}


def _removed(pruned: Mapping[str, Pruned]) -> list[dict[str, str | int]]:
    """How many neurons of each layer were removed."""
    return [
        {"place": f"{part} layer {layer}", "pruned": int(gone.sum()), "of": len(gone)}
        for part, layers in pruned.items()
        for layer, gone in sorted(layers.items())
    ]


def _write_mask(mask: SaliencyMask | None, place_of: Mapping[str, str], out: Path) -> dict[str, float]:
    """`mask.json`: d_F and how many weights of each tensor, and of each place in the model, are salient."""
    if mask is None:
        write_json(out / "mask.json", None)
        return {}
    tensors = mask.density
    by_place: dict[str, Counter[str]] = defaultdict(Counter)
    for name in filter(tensors.__contains__, place_of):
        by_place[place_of[name]].update(tensors[name])
    in_order = [{"place": place, **counts} for place, counts in by_place.items()]
    write_json(out / "mask.json", {"d_F": mask.threshold, "tensors": tensors, "places": in_order})
    kept, of = (sum(counts[key] for counts in tensors.values()) for key in ("kept", "of"))
    return {"mask_density": kept / of, "d_F": mask.threshold}


def read_fisher(statistics: Path) -> dict[str, Fisher]:
    """Question set -> Fisher information by tensor, as collect-statistics stored it."""
    found: dict[str, dict[str, Tensor]] = {name: {} for name in QUESTION_SETS}
    for key, tensor in load_file(statistics / "fisher.safetensors").items():
        question_set, _, name = key.partition("/")
        found[question_set][name] = tensor
    return found
