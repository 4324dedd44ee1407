"""`unsee plan`: memory, bytes and FLOPs of a run before anything runs (docs/memory.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from unsee.benchmark import schema
from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.compute import PLAIN, Compute
from unsee.errors import UserError
from unsee.memory import resident
from unsee.mllm.rows import PIXELS_KEPT
from unsee.plan.data import Imagined, imagined, of_one_size
from unsee.plan.models import ModelPlan, parts_of
from unsee.plan.steps import Measured, Steps
from unsee.sections import ComputeSettings, LoraSettings
from unsee.settings import Settings
from unsee.steps.build_vanilla import configuration_of

GIB = 2**30
IMPORTED = ("unsee.tracking.mlflow", "rouge_score.rouge_scorer")
"""What steps have imported at their peak, and planning has no need of."""


@dataclass(frozen=True)
class StepPlan:
    """One step. trainable_parameters: that an optimiser changes. low_rank: they are additions by LoRA.
    activation_bytes: at the peak, as the step computes; where there are gradients also if they were kept or recomputed.
    host_bytes: main memory beside the device's (all of it where the device is the CPU). disk_bytes: of what the step
    leaves, and a store gets. checkpoint_bytes: of what a training saves of itself meanwhile. epochs are of unlearning
    and training; of the other steps they are one pass over all images. images_per_epoch: that an epoch goes by.
    image_tokens_per_epoch: that the LLM reads."""

    trainable_parameters: int
    low_rank: bool
    weight_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    activation_bytes: Mapping[str, int]
    cache_bytes: int
    peak_device_bytes: int
    host_bytes: int
    disk_bytes: int
    checkpoint_bytes: int
    images_per_epoch: int
    image_tokens_per_epoch: int
    flops_per_epoch: int


@dataclass(frozen=True)
class Plan:
    """A run's steps, its model's parameters by part, and how it computes."""

    model: str
    family: str
    parameters: Mapping[str, int]
    image_tokens: int
    compute: Mapping[str, Any]
    steps: Mapping[str, StepPlan]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan(
    settings: Settings,
    benchmark: Path | None = None,
    forget: Sequence[str] = (),
    only: Sequence[str] = (),
    *,
    card: bool = False,
    both_ways: bool = True,
) -> Plan:
    """What the steps of a run need, each computed by running it on a model without weights.

    Args:
        benchmark: the directory that is given instead of the preset's own benchmark. All its pictures count as the
            one that becomes most tokens. only: these steps (none: all).
        card: plan for a machine with a GPU that computes in bfloat16, where settings say auto; else for this one.
        both_ways: also what activations would take with checkpointing, or without it, which takes twice as long.

    Raises:
        UserError: the model's configuration cannot be had or is of no known family, there is no such step, the
            benchmark has no training question about a photograph of the people to forget or to retain, or one of its
            pictures cannot be read.
    """
    data = imagined(settings.benchmark) if benchmark is None else schema.load(benchmark, verify=False)
    request = ForgetRequest.resolve(data, forget)
    request.require_training(data, by_name=False)
    return _Planner(settings, data, request, settings.vanilla.base, card, both_ways).plan(only)


class _Planner:
    def __init__(
        self, settings: Settings, benchmark: Benchmark, request: ForgetRequest, base: str, card: bool, both_ways: bool
    ):
        self.settings, self.request, self.base = settings, request, base
        self.card, self.both_ways = card, both_ways
        self.model = ModelPlan.of(base, lambda: configuration_of(base))
        whole = self.model.make(PLAIN)
        self.benchmark = benchmark if isinstance(benchmark, Imagined) else of_one_size(benchmark, whole)
        self.mllm = whole.at(whole.frame_of(*self.benchmark.pixels))
        self.steps = Steps(settings, self.benchmark, request, self.model)
        for module in IMPORTED:
            import_module(module)
        self.interpreter = resident()

    def plan(self, only: Sequence[str]) -> Plan:
        run, settings = self.steps, self.settings
        known: dict[str, tuple[Callable[[Compute], Measured], ComputeSettings]] = {
            "build-vanilla": (run.build_vanilla, settings.vanilla.compute),
            "collect-statistics": (run.collect_statistics, settings.statistics.compute),
            "unlearn": (run.unlearn, settings.unlearn.compute),
            "evaluate": (run.evaluate, settings.evaluation.compute),
            "relearn-attack": (run.relearn_attack, settings.relearn.compute),
        }
        if not settings.relearn.percents:
            del known["relearn-attack"]
        if unknown := sorted({*only} - {*known}):
            raise UserError(f"--step {unknown[0]} is no step of this run; give one of {', '.join(known)}")
        compute = Compute.of(settings.unlearn.compute, card=self.card)
        steps = {name: self._step(name, *known[name]) for name in known if not only or name in only}
        family, parts = self.model.config.model_type, parts_of(self.mllm)
        return Plan(self.base, family, parts, self.mllm.image_tokens, compute.facts, steps)

    def _step(self, name: str, measure: Callable[[Compute], Measured], settings: ComputeSettings) -> StepPlan:
        compute = Compute.of(settings, card=self.card)
        found = measure(compute)
        activations = {"as_computed": found.peak.activations}
        if self.both_ways and name != "evaluate":
            other = measure(replace(compute, checkpointing=not compute.checkpointing))
            names = ("recomputed", "kept") if compute.checkpointing else ("kept", "recomputed")
            activations |= dict(zip(names, (found.peak.activations, other.peak.activations), strict=True))
        images, cache = self._images(name), found.kept * self._cached_images()
        written = self._written(name, found, compute)
        saved = 3 * 4 * found.trained if name in ("build-vanilla", "unlearn") else 0
        vanilla, attack = self.settings.vanilla, self.settings.relearn
        low_rank = {"build-vanilla": isinstance(vanilla, LoraSettings), "relearn-attack": attack.rank is not None}
        main = self.interpreter + self._pixels() + cache
        if compute.device == "cpu":
            device = host = main + found.peak.total + found.beside
        else:  # what is written is copied to main memory before
            device, host = found.peak.total, main + max(found.beside, written, saved)
        return StepPlan(
            trainable_parameters=found.trained,
            low_rank=low_rank.get(name, False),
            weight_bytes=found.peak.weights,
            gradient_bytes=found.peak.gradients,
            optimiser_bytes=found.peak.optimiser,
            activation_bytes=activations,
            cache_bytes=cache,
            peak_device_bytes=device,
            host_bytes=host,
            disk_bytes=written,
            checkpoint_bytes=saved,
            images_per_epoch=images,
            image_tokens_per_epoch=found.image_tokens * images,
            flops_per_epoch=found.flops * images,
        )

    def _images(self, step: str) -> int:
        """That a step's epoch goes by: rows of its training, or images it looks at."""
        trained = self.benchmark.select(role="train", modality="vqa")
        if step == "build-vanilla":
            if isinstance(self.settings.vanilla, LoraSettings):
                return len(trained)
            return len({q.image for q in trained})
        people = {
            "collect-statistics": {*self.request.forget, *self.request.retain},
            "unlearn": {*self.request.forget},
            "relearn-attack": {*self.request.forget},
        }
        if step == "evaluate":
            return len({q.image for q in self.benchmark.select(role="eval", modality="vqa")})
        return len({q.image for q in trained if q.entity_id in people[step]})

    def _pixels(self) -> int:
        """Bytes of preprocessed pixels, of all images or as many as are kept."""
        images = len({q.image for q in self.benchmark.questions if q.image})
        return min(PIXELS_KEPT, images * self.mllm.pixels([Image.new("RGB", self.benchmark.pixels)]).nbytes)

    def _cached_images(self) -> int:
        """Versions of trained portraits, whose frozen features are kept."""
        people = {*self.request.forget, *self.request.retain}
        trained = {q.image for q in self.benchmark.select(role="train", modality="vqa") if q.entity_id in people}
        return len(trained) * self.settings.unlearn.versions

    def _written(self, step: str, found: Measured, compute: Compute) -> int:
        """Bytes of what the step leaves: a model (float32 where all of it was trained), statistics, a delta (at most,
        of a method that only prunes)."""
        size = compute.dtype.itemsize if isinstance(self.settings.vanilla, LoraSettings) else 4
        whole = sum(p.numel() for p in self.mllm.model.parameters()) * size
        visual = sum(p.numel() for p in self.mllm.visual_parameters(None).values())
        neurons = sum(mlp.outgoing.in_features for mlp in self.mllm.tower_mlps())
        statistics = 2 * 4 * (visual + neurons)
        written = {"build-vanilla": whole, "collect-statistics": statistics, "unlearn": 4 * found.trained or whole}
        return written.get(step, 0)


def table(found: Plan) -> str:
    """The plan for people."""
    parts = ", ".join(f"{name} {number / 1e6:,.0f} M" for name, number in found.parameters.items())
    lines = [
        f"{found.model} ({found.family}): {parts}; {found.image_tokens} tokens an image",
        f"computing on {found.compute['device']} in {found.compute['precision']}",
        "",
        f"{'GiB':20}{'peak':>8}{'weights':>9}{'gradients':>11}{'optimiser':>11}{'activations':>13}"
        f"{'host':>8}{'disk':>8}{'TFLOP an epoch':>16}",
    ]
    for name, step in found.steps.items():
        sizes = (
            step.peak_device_bytes, step.weight_bytes, step.gradient_bytes, step.optimiser_bytes,
            step.activation_bytes["as_computed"], step.host_bytes, step.disk_bytes,
        )  # fmt: skip
        figures = zip(sizes, (8, 9, 11, 11, 13, 8, 8), strict=True)
        row = "".join(f"{size / GIB:{width}.2f}" for size, width in figures)
        lines.append(f"{name:20}{row}{step.flops_per_epoch / 1e12:16,.1f}")
    return "\n".join(lines)
