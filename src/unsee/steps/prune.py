"""Which neurons go (Eq. 7-8): thresholds are applied to stored statistics, the model is not touched yet."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from unsee.pruning import choose_neurons
from unsee.sections import PruneSettings
from unsee.settings import require_layers
from unsee.statistics.importance import unflatten, unlearning_importance
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker


def run(settings: PruneSettings, statistics: Path, out: Path, tracker: Tracker) -> dict[str, float]:
    """Write `pruned.safetensors` and `pruning.json` to `out`. Returns the threshold and the pruned fraction.

    Raises:
        UserError: incomplete or damaged statistics, or more layers asked for than feed the projector.
    """
    artifact.read(statistics, "statistics")
    stored = load_file(statistics / "importance.safetensors")
    importance = unlearning_importance(unflatten(stored, "forget_vqa"), [unflatten(stored, "retain_vqa")])
    require_layers("prune.layers", settings.layers, len(importance))
    selection = choose_neurons(importance, settings)
    layers = {str(i): {"pruned": int(gone.sum()), "of": len(gone)} for i, gone in selection.chosen.items()}
    found = {"threshold": selection.value, "fraction": selection.fraction}
    with artifact.create(out, "pruning", {"settings": settings.model_dump()}):
        save_file({f"layers.{layer}": gone for layer, gone in selection.chosen.items()}, out / "pruned.safetensors")
        write_json(out / "pruning.json", {**found, "layers": layers})
    tracker.log_params(settings.model_dump())
    return found
