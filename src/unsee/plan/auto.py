"""`--preset auto`: settings for any base of a known family, and whether its run fits this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unsee.benchmark import schema
from unsee.compute import PLAIN
from unsee.errors import UserError
from unsee.launching import process_count
from unsee.memory import available
from unsee.plan import GIB, Plan, plan
from unsee.plan.models import ModelPlan
from unsee.progress import say
from unsee.settings import load_settings, sets
from unsee.steps.build_vanilla import configuration_of

AUTO = "auto"
TINY = 100_000_000
"""Models of fewer parameters are trained whole, as the embedded ones are."""
SMALL = 1_000_000_000
"""Models of fewer keep their activations, if there is memory for them."""
KEPT = "compute.checkpointing=false"
ATTACK = "relearn-attack"
MARGIN = 1.15
"""Main memory: so much more than planned a step may take (docs/memory.md)."""
LOW_RANK = 1.75
"""And so much more again where it trains low-rank additions on the CPU, for memory that the C library keeps: at most
1.98 times the plan was taken in all (docs/memory.md)."""
CONTEXT = GIB
"""Of a GPU, beside all tensors."""


@dataclass(frozen=True)
class Asked:
    """A run of a model on a benchmark, and what of its settings is said."""

    model: str
    benchmark: Path
    config: Path | None = None
    assignments: Sequence[str] = ()
    method: str = "vkd"
    forget: Sequence[str] = ()

    def preset(self) -> tuple[str, list[str]]:
        """The preset whose model is nearest, and what of it is other for this model and machine. What `config` says
        stays.

        Raises:
            UserError: no such model, or one of no known family.
        """
        data = schema.load(self.benchmark, verify=False)
        model = ModelPlan.of(self.model, lambda: configuration_of(self.model))
        mllm = model.make(PLAIN)
        layers, parameters = len(mllm.tower_layers), sum(p.numel() for p in mllm.model.parameters())
        near = "qwen2-vl-7b" if model.config.model_type.startswith("qwen") else "llava-1.5-7b"
        deeper = max(1, layers // 2)
        wanted: dict[str, object] = {"prune.layers": deeper, "unlearn.layers": deeper}
        if parameters >= TINY:
            wanted |= {"compute.threads": torch.get_num_threads()}
        if TINY <= parameters < SMALL:
            wanted |= {"compute.checkpointing": "false"}
        own = [f"{name}={value}" for name, value in wanted.items() if not sets(self.config, *name.split("."))]
        return "embedded" if parameters < TINY else f"{near}-{data.shape}", [f"vanilla.base={self.model}", *own]

    def fitting(self) -> tuple[str, list[str]]:
        """The same, once it is known that the run fits: preset and assignments. Activations are computed twice where
        there is no memory to keep them; if then the attack alone does not fit, it is left out.

        Raises:
            UserError: it does not fit.
        """
        say(f"planning a run of {self.model}: two steps of every training, of a model without weights")
        preset, own = self.preset()
        assignments = [*own, *self.assignments]
        found = self._planned(preset, assignments)
        if _too_large(found) and KEPT in own:
            assignments.remove(KEPT)
            found = self._planned(preset, assignments)
        too_large = _too_large(found)
        if too_large == [ATTACK]:
            say(f"the relearning attack needs {_gib(found, ATTACK)}, more than there is, and is left out")
            return preset, [*assignments, "relearn.percents=[]"]
        if too_large:
            device = found.compute["device"]
            raise UserError(
                f"{self.model} does not fit: the step {too_large[0]} needs {_gib(found, too_large[0])}, and "
                f"{free_on(device) / GIB:.1f} GiB are free on {device} beside a margin; take a smaller model or a "
                "larger machine, or less at once (--set unlearn.micro_batch_images=1, "
                "--set compute.checkpointing=true)"
            )
        most = max(_needed(found, name)[0] for name in found.steps)
        say(f"{self.model}: settings of {preset}, at most {most / GIB:.1f} GiB")
        return preset, assignments

    def _planned(self, preset: str, assignments: Sequence[str]) -> Plan:
        settings = load_settings(
            preset, config=self.config, assignments=assignments, method=self.method, benchmark=str(self.benchmark)
        )
        return plan(settings, self.benchmark, self.forget, both_ways=False)


def _needed(found: Plan, step: str) -> tuple[int, int]:
    """Bytes of each process's device, and of main memory for all of them, with what the C library keeps."""
    planned, device = found.steps[step], found.compute["device"]
    more = LOW_RANK if planned.low_rank and device == "cpu" else 1
    main = int(more * planned.host_bytes) * process_count(device)
    return main if device == "cpu" else planned.peak_device_bytes, main


def _too_large(found: Plan) -> list[str]:
    """The steps that this machine has no memory for."""
    free = free_on(found.compute["device"]), free_on("cpu")
    return [name for name in found.steps if any(n > f for n, f in zip(_needed(found, name), free, strict=True))]


def _gib(found: Plan, step: str) -> str:
    device, main = _needed(found, step)
    beside = f" and {main / GIB:.1f} of main memory" if found.compute["device"] == "cuda" else ""
    return f"{device / GIB:.1f} GiB{beside}"


def free_on(device: str) -> int:
    """Bytes that a step may be planned to take on this machine's device."""
    return torch.cuda.mem_get_info()[0] - CONTEXT if device == "cuda" else int(available() / MARGIN)
