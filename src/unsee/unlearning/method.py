"""What a method is: the losses it optimises, which of them a saliency mask restrains, and what it edits by hand.

A method is one module under `unsee.unlearning.methods`, named as on the command line, with a subclass of `Method`.
Batching, masks, caching, checkpoints and logging live in the trainer.
"""

import copy
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from torch import Tensor, nn

from unsee.benchmark.schema import Benchmark, ForgetRequest
from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.mllm.augmentation import augmented, blended
from unsee.mllm.families import Mllm
from unsee.mllm.rows import (
    FrozenPrefix,
    ImageBank,
    Images,
    Pixels,
    Portraits,
    Rows,
    See,
    by_name,
    frozen_batch,
    mean_loss,
    seeing,
)
from unsee.pruning import Pruned
from unsee.sections import PruneSettings, ThresholdSettings, UnlearnSettings
from unsee.statistics.fisher import Fisher, fisher_of_rows
from unsee.thresholds import Selection
from unsee.unlearning import methods
from unsee.unlearning.saliency import SaliencyMask, salient


@dataclass(frozen=True)
class Term:
    """`weight * loss` over one kind of rows, minimised; `{name}_loss` is recorded without the weight.

    loss: of what `rows` give, `Outputs` or what is `Seen`, to a scalar.
    forgets: it works against what is to be forgotten: the saliency mask restrains its gradient.
    """

    name: str
    rows: Rows | Images
    loss: Callable[[Any], Tensor]
    weight: float = 1.0
    forgets: bool = False


@dataclass(frozen=True)
class Work:
    """A vanilla model to be unlearned, and everything a method may draw on.

    pruned: neurons to remove, by tower layer, as `pruning` asks. fisher: Fisher information of the visual part on
    D_f,vqa, then on D_r,vqa. fisher_unit: what a sample of it is. retrained: directory of the reference model, if there
    is one. version: which of the portraits' versions is shown (`UnlearnSettings.versions`).
    """

    settings: UnlearnSettings
    mllm: Mllm
    bank: ImageBank
    benchmark: Benchmark
    request: ForgetRequest
    pruned: Pruned
    pruning: PruneSettings
    fisher: Mapping[str, Fisher]
    fisher_unit: Literal["image", "question"] = "image"
    retrained: Path | None = None
    version: int = 0

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained: the visual part, or everything."""
        if self.settings.scope == "vision":
            return self.mllm.visual_parameters(self.settings.layers)
        return dict(self.mllm.model.named_parameters())

    @cached_property
    def versions(self) -> Sequence["Work"]:
        """The same with each version of the portraits, this one first."""
        return [self, *(replace(self, version=version) for version in range(1, self.settings.versions))]

    @cached_property
    def vanilla_head(self) -> nn.Module:
        """The LLM's output layer as it is before anything changes; a copy where it is trained or attacked."""
        trained = {id(parameter) for parameter in self.parameters.values()}
        changes = any(id(parameter) in trained for parameter in self.mllm.head.parameters())
        if not changes and self.settings.resist is None:
            return self.mllm.head
        return copy.deepcopy(self.mllm.head).requires_grad_(False)

    def see(self, images: Sequence[str]) -> Tensor:
        """Projector output [B, N, D] of this version of the portraits."""
        return self._see(images)

    @cached_property
    def _see(self) -> See:
        people, asked = {*self.request.forget, *self.request.retain}, self.benchmark.select(role="train")
        images = dict.fromkeys(q.image for q in asked if q.image and q.entity_id in people)
        return self._seeing(self.pixels, list(images))

    @property
    def pixels(self) -> Pixels:
        """This version of the portraits."""
        return augmented(self.bank, self.settings.seed, self.version)

    def _seeing(self, pixels: Pixels, images: Sequence[str]) -> See:
        """How these images are looked at: through cached outputs of frozen tower layers, if there are any."""
        if self.settings.scope == "full":
            return seeing(self.mllm, pixels, self.bank.frame)
        first_tuned = self.mllm.tower_mlps(self.settings.layers)[0].layer
        first_pruned = min((layer for layer, gone in self.pruned.items() if bool(gone.any())), default=first_tuned)
        prefix = FrozenPrefix(self.mllm, pixels, min(first_tuned, first_pruned), self.bank.frame)
        prefix.fill(images, frozen_batch(self.mllm))
        return prefix.features

    def blends(self, count: int) -> Images:
        """Each retain portrait blended with one drawn at random; a step takes `count`."""
        images = self.retain.keys
        pixels = blended(self.pixels, images, self.settings.seed, self.version, self.bank)
        return Images(images, self._seeing(pixels, images), count, self.bank.frame)

    @cached_property
    def forget(self) -> Portraits:
        """D_f,vqa: an epoch sees each of them once."""
        batch = self.settings.batch_forget_images
        return Portraits(self.mllm, self.bank, self.benchmark, self.request.forget, self.see, batch)

    @cached_property
    def retain(self) -> Portraits:
        """D_r,vqa."""
        batch = self.settings.batch_retain_images
        return Portraits(self.mllm, self.bank, self.benchmark, self.request.retain, self.see, batch)

    @cached_property
    def forget_by_name(self) -> Rows:
        """D_f,qa: what is known of the forget people by name is to stay."""
        return by_name(self.mllm, self.benchmark, self.request.forget, self.settings.batch_people)

    @cached_property
    def retain_by_name(self) -> Rows:
        """D_r,qa."""
        return by_name(self.mllm, self.benchmark, self.request.retain, self.settings.batch_people)

    @property
    def preserved(self) -> dict[str, Rows]:
        """D_r: retain portraits and, where that has a gradient, the same people by name."""
        by_name = {"retain_by_name": self.retain_by_name} if self.settings.scope == "full" else {}
        return {"retain": self.retain, **by_name}

    @property
    def others(self) -> dict[str, Rows]:
        """Everything but D_f,vqa: D_r and, where that has a gradient, the forget people by name."""
        by_name = {"forget_by_name": self.forget_by_name} if self.settings.scope == "full" else {}
        return {**by_name, **self.preserved}

    def mask(self, threshold: ThresholdSettings) -> SaliencyMask:
        """m (Eq. 11) of what is trained."""
        return SaliencyMask.of(self.salient(threshold))

    def salient(self, threshold: ThresholdSettings) -> Selection[str]:
        """Which entries matter (Eq. 10-11): by stored Fisher information, or as measured here where all is trained."""
        if self.settings.scope == "vision":
            found = ({n: fisher[n] for n in self.parameters if n in fisher} for fisher in self.fisher.values())
        else:
            sets = (self.forget, *self.others.values())
            found = (fisher_of_rows(self.parameters, rows, self.fisher_unit) for rows in sets)
        return salient(next(found), found, threshold)

    def forget_seen_by(self, model: Literal["vanilla", "retrained"]) -> Sequence[Rows]:
        """D_f,vqa in each version through the model being unlearned (vanilla, before it changes) or the retrained one.

        Raises:
            UserError: there is no retrained model.
        """
        if model == "vanilla":
            return [work.forget for work in self.versions]
        if self.retrained is None:
            raise UserError("unlearn.reference = retrained, but there is no retrained model; use vanilla")
        retrained = checkpoint.load_full(self.retrained, self.mllm.compute)

        def seen(pixels: Pixels) -> Rows:
            see = seeing(retrained, pixels, self.bank.frame)
            return Portraits(retrained, self.bank, self.benchmark, self.request.forget, see)

        return [seen(work.pixels) for work in self.versions]


SettingsT = TypeVar("SettingsT", bound=UnlearnSettings)


class Method(Generic[SettingsT]):
    """One way to unlearn. `Settings`: its own settings, the tuned values of a preset override their defaults.

    pruned: the neurons it has removed, by "Tower" and "LLM".
    """

    Settings: ClassVar[type[UnlearnSettings]] = UnlearnSettings

    def __init__(self, settings: SettingsT, work: Work):
        self.settings, self.work = settings, work
        self.pruned: dict[str, Pruned] = {}

    def terms(self, work: Work) -> Sequence[Term]:
        """The losses on one version of the portraits; references to the vanilla model are taken here, before anything
        changes."""
        return ()

    def mask(self) -> SaliencyMask | None:
        """Which weights the forgetting terms may change; None: all."""
        return None

    def told(self) -> Mapping[str, float]:
        """Figures about what it works with, from 0 to 1, taken before anything changes."""
        return {}

    def before(self) -> Mapping[str, Tensor]:
        """Edit the model before training. Returns entries of tunable tensors that must then stay as they are, bool."""
        return {}

    def after(self) -> None:
        """Edit the model after training."""


def answer_terms(rows: Mapping[str, Rows]) -> list[Term]:
    """Cross-entropy on each of these."""
    return [Term(name, of, mean_loss) for name, of in rows.items()]


def settings_of(values: Mapping[str, Any]) -> UnlearnSettings:
    """The settings of the method that `values` name.

    Raises:
        UserError: no such method.
        ValidationError: an unknown name, a missing one or an impossible value.
    """
    return find(values["method"]).Settings.model_validate(values)


def names() -> list[str]:
    """All methods there are."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def find(name: str) -> type[Method[Any]]:
    """The method of that name.

    Raises:
        UserError: there is none.
    """
    if name not in names():
        raise UserError(f"method {name!r} is unknown; choose one of {', '.join(names())}")
    module = importlib.import_module(f"{methods.__name__}.{name}")
    (method,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    )
    return method
