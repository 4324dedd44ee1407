"""Activation and Fisher statistics of the vanilla model on the forget and the retain portraits (Eq. 6, 9).

The qa sets contribute exactly zero: without an image neither the tower nor the projector runs. They are recorded as
such, and left out of the work.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from unsee.benchmark.schema import ForgetRequest, load
from unsee.launching import in_processes
from unsee.mllm.families import Mllm, only_tunable
from unsee.mllm.rows import ImageBank, Portraits, in_main_memory
from unsee.parallel import main_goes_on, own
from unsee.progress import progress
from unsee.sections import StatisticsSettings
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.fisher import diagonal_fisher
from unsee.statistics.importance import flatten
from unsee.steps.models import open_model
from unsee.storage import artifact
from unsee.storage.artifact import write_json
from unsee.tracking import Tracker

ZERO_SETS = ("forget_qa", "retain_qa")


@in_processes
def run(
    settings: StatisticsSettings, benchmark: Path, forget: Sequence[str], model: Path, out: Path, tracker: Tracker
) -> dict[str, float]:
    """Write `importance.safetensors`, `fisher.safetensors` and `statistics.json` to `out`. Returns sample counts.

    Raises:
        UserError: an incomplete or damaged input, or no photographs of the forget or the retain people.
    """
    data = load(benchmark)
    request = ForgetRequest.resolve(data, forget)
    request.require_training(data, by_name=False)
    mllm = open_model(model, None, settings.compute)
    bank = ImageBank(mllm, data)
    sets = {
        "forget_vqa": Portraits(mllm, bank, data, request.forget),
        "retain_vqa": Portraits(mllm, bank, data, request.retain),
    }
    facts = {"settings": settings.model_dump(), "forget": list(request.forget), "compute": mllm.compute.facts}
    with artifact.create(out, "statistics", facts):
        batch = settings.batch_images
        importance = {
            name: mean_absolute_activation(mllm, bank.pixels, portraits.keys, batch, bank.frame)
            for name, portraits in sets.items()
        }
        fisher = {
            name: {n: in_main_memory(t) for n, t in fisher_of_portraits(mllm, portraits, settings, name).items()}
            for name, portraits in sets.items()
        }
        main_goes_on()
        save_file(flatten(importance), out / "importance.safetensors")
        save_file(
            {f"{s}/{n}": t for s, by_name in fisher.items() for n, t in by_name.items()}, out / "fisher.safetensors"
        )
        counts = {f"{name} images": len(portraits.keys) for name, portraits in sets.items()}
        write_json(out / "statistics.json", {"counts": counts, "zero_sets": ZERO_SETS, **facts})
    tracker.log_params(settings.model_dump())
    return {name: float(count) for name, count in counts.items()}


def visual_layers(mllm: Mllm) -> dict[str, nn.Module]:
    """The layers of the tower MLPs and of the projector, by full name."""
    names = {name.rpartition(".")[0] for name in mllm.visual_parameters(None)}
    return {name: module for name, module in mllm.model.named_modules() if name in names}


def fisher_of_portraits(mllm: Mllm, portraits: Portraits, settings: StatisticsSettings, name: str) -> dict[str, Tensor]:
    """Fisher information of the tower MLPs and the projector; `name` is shown as progress."""
    only_tunable(mllm.model, mllm.visual_parameters(None))

    def losses() -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
        chunks = portraits.chunks(own(portraits.keys), settings.batch_images)
        for keys in progress(chunks, f"Fisher information, {name}"):
            yield partial(_forward, portraits, keys)

    return diagonal_fisher(visual_layers(mllm), losses(), settings.fisher_unit)


def _forward(portraits: Portraits, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
    outputs = portraits.forward(keys)
    return outputs.losses, outputs.weights
