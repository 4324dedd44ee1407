"""Unlearn: prune the vanilla model, then fine-tune its visual part under the saliency mask (Eq. 3-5, 8, 11)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from unsee.benchmark.schema import Benchmark, ForgetRequest, load
from unsee.mllm import checkpoint
from unsee.mllm.families import Mllm
from unsee.mllm.finetune import ImageBank
from unsee.pruning import pruned_entries, zero_neurons
from unsee.settings import UnlearnSettings, require_layers
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker
from unsee.training import Checkpoints
from unsee.unlearning.saliency import SaliencyMask, saliency_mask
from unsee.unlearning.trainer import Look, Unlearning
from unsee.unlearning.visual import FrozenPrefix, Portraits, augmented
from unsee.unlearning.vkd import Vkd

FEATURE_BATCH = 64


def run(
    settings: UnlearnSettings,
    benchmark: Path,
    forget: Sequence[str],
    model: Path,
    statistics: Path,
    pruning: Path,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Write the unlearned model to `out` as a delta on the vanilla one. Returns the last losses and mask density.

    Raises:
        UserError: an incomplete or damaged input, more layers asked for than feed the projector, or a dead mask.
        TrainingFailure: a loss became NaN or infinite.
    """
    data = load(benchmark)
    request = ForgetRequest.resolve(data, forget)
    inputs = [artifact.read(path, kind).digest for path, kind in _inputs(benchmark, model, statistics, pruning)]
    mllm = open_model(model, None, settings.threads)
    require_layers("unlearn.layers", settings.layers, len(mllm.tower_layers))
    mask = read_mask(statistics, mllm.visual_parameters(settings.layers), settings)
    pruned = {int(k.removeprefix("layers.")): t for k, t in load_file(pruning / "pruned.safetensors").items()}
    checkpoints = Checkpoints.of("unlearn", settings.model_dump(), request.forget, inputs)
    work = assemble(settings, data, request, mllm, mask, pruned, checkpoints, tracker)
    tracker.log_params({**settings.model_dump(), "d_F": mask.threshold})
    facts = {"method": settings.method, "settings": settings.model_dump(), "forget": list(request.forget)}
    with artifact.create(out, "model", facts):
        curve = work.run()
        checkpoint.save_delta(
            mllm, model, out, method=settings.method, seed=settings.seed, config=settings.model_dump()
        )
        write_json(out / "history.json", curve)
        write_json(out / "mask.json", {"d_F": mask.threshold, "tensors": mask.density})
    checkpoints.clear()
    kept, of = (sum(tensor[count] for tensor in mask.density.values()) for count in ("kept", "of"))
    return {**{k: v for k, v in curve[-1].items() if k != "step"}, "mask_density": kept / of}


def _inputs(benchmark: Path, model: Path, statistics: Path, pruning: Path) -> list[tuple[Path, str]]:
    return [(benchmark, "benchmark"), (model, "model"), (statistics, "statistics"), (pruning, "pruning")]


def read_mask(statistics: Path, parameters: Mapping[str, nn.Parameter], settings: UnlearnSettings) -> SaliencyMask:
    """Eq. 10-11 over the tunable tensors, from stored Fisher information."""
    stored = load_file(statistics / "fisher.safetensors")

    def of(question_set: str) -> dict[str, Tensor]:
        return {name: stored[f"{question_set}/{name}"] for name in parameters}

    return saliency_mask(of("forget_vqa"), [of("retain_vqa")], settings.mask)


def assemble(
    settings: UnlearnSettings,
    data: Benchmark,
    request: ForgetRequest,
    mllm: Mllm,
    mask: SaliencyMask,
    pruned: Mapping[int, Tensor],
    checkpoints: Checkpoints,
    tracker: Tracker,
) -> Unlearning:
    """Cache what is frozen, take the vanilla teacher's features, prune, and put the pieces together."""
    bank = ImageBank(mllm, data)
    forget = Portraits(mllm, bank, data, request.forget)
    retain = Portraits(mllm, bank, data, request.retain)
    first_tuned = mllm.tower_mlps(settings.layers)[0].layer
    first_pruned = min((layer for layer, gone in pruned.items() if bool(gone.any())), default=first_tuned)
    bound = None if settings.bound == "none" else settings.bound

    def look(version: int) -> Look:
        source = FrozenPrefix(mllm, augmented(bank, settings.seed, version), min(first_tuned, first_pruned))
        source.fill([*forget.images, *retain.images], FEATURE_BATCH)
        teacher = source.snapshot(retain.images, FEATURE_BATCH)
        return Look(source, Vkd(settings.alpha, settings.beta, bound, teacher))

    looks = [look(version) for version in range(settings.versions)]
    zero_neurons(mllm, pruned)
    return Unlearning(
        settings=settings,
        looks=looks,
        forget=forget,
        retain=retain,
        parameters=mllm.visual_parameters(settings.layers),
        mask=mask,
        frozen_entries=pruned_entries(mllm, pruned),
        checkpoints=checkpoints,
        tracker=tracker,
    )
