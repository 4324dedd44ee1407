"""The product at work on a workload: what the steps call, and nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from unsee.bench.workloads import Workload
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm.rows import ImageBank
from unsee.statistics.fisher import Fisher, diagonal_fisher
from unsee.statistics.importance import Importance, mean_absolute_activation
from unsee.steps.collect_statistics import linear_layers
from unsee.steps.unlearn import FEATURE_BATCH, assemble
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.mllm.families import only_tunable
from unsee.unlearning.visual import FrozenPrefix


@dataclass(frozen=True)
class Statistics:
    """What pruning and the saliency mask are made from, of the forget portraits."""

    fisher: Fisher
    importance: Importance


class Ours:
    """Unlearning, evaluation and statistics as the product does them. Prunes the workload's model."""

    def __init__(self, workload: Workload):
        w = self.workload = workload
        self.bank = ImageBank(w.mllm, w.benchmark)
        self.unlearning = assemble(
            w.settings.unlearn, w.benchmark, w.request, w.mllm, w.mask, w.pruned, Checkpoints(), NoTracker()
        )

    def prepare(self) -> None:
        """What is computed once before the first epoch: outputs of frozen layers, and the teacher's features."""
        source = FrozenPrefix(self.workload.mllm, self.bank.pixels, self.unlearning.looks[0].source.start)
        retain = self.unlearning.retain.images
        source.fill([*self.unlearning.forget.images, *retain], FEATURE_BATCH)
        source.snapshot(retain, FEATURE_BATCH)

    def gradients(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Losses and combined gradients of the first step."""
        only_tunable(self.workload.mllm.model, self.unlearning.parameters)
        losses = self.unlearning.gradients(0)
        return losses, {name: p.grad for name, p in self.unlearning.parameters.items() if p.grad is not None}

    def epoch(self) -> None:
        """One epoch of unlearning, optimiser included."""
        self.unlearning.run()

    def scores(self, asked: Sequence[Asked]) -> list[list[float]]:
        """Scores of every option of every question."""
        return Examiner(self.workload.mllm, self.bank, self.workload.settings.evaluation.batch_images).scores(asked)

    def statistics(self) -> Statistics:
        """Fisher information and importance, one pass each."""
        mllm, settings = self.workload.mllm, self.workload.settings.statistics
        only_tunable(mllm.model, mllm.visual_parameters(None))
        images = self.unlearning.forget.images
        importance = mean_absolute_activation(mllm, self.bank.pixels, images, settings.batch_images)
        fisher = diagonal_fisher(linear_layers(mllm), self._losses(images, settings.batch_images), settings.fisher_unit)
        return Statistics(fisher, importance)

    def _losses(self, images: list[str], batch: int) -> Iterator[Callable[[], tuple[Tensor, Tensor]]]:
        for start in range(0, len(images), batch):
            yield lambda chunk=images[start : start + batch]: self._forward(chunk)  # type: ignore[misc]

    def _forward(self, images: list[str]) -> tuple[Tensor, Tensor]:
        features = self.workload.mllm.features(self.bank.pixels(images))
        outputs = self.unlearning.forget.forward(images, features)
        return outputs.losses, outputs.weights
