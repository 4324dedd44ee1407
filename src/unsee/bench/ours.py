"""The product at work on a workload: what the steps call, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unsee.bench.workloads import Workload
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm.families import only_tunable
from unsee.mllm.rows import Portraits
from unsee.statistics.fisher import Fisher
from unsee.statistics.importance import Importance, mean_absolute_activation
from unsee.steps.collect_statistics import fisher_of_portraits
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.references import reference_features
from unsee.unlearning.trainer import Unlearning


@dataclass(frozen=True)
class Statistics:
    """What pruning and the saliency mask are made from, of the forget portraits."""

    fisher: Fisher
    importance: Importance


class Ours:
    """Unlearning, evaluation and statistics as the product does them. Prunes the workload's model."""

    def __init__(self, workload: Workload):
        self.workload = workload
        self.bank = workload.work().bank
        self.unlearning = Unlearning.of(workload.work(), Checkpoints(), NoTracker())

    def prepare(self) -> None:
        """What is computed once before the first epoch: outputs of frozen layers, and the teacher's features."""
        reference_features(self.workload.work().retain)

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
        batch_images = self.workload.settings.evaluation.batch_images
        return Examiner(self.workload.mllm, self.bank.pixels, batch_images).scores(asked)

    def statistics(self) -> Statistics:
        """Fisher information and importance, one pass each."""
        w = self.workload
        portraits = Portraits(w.mllm, self.bank, w.benchmark, w.request.forget)
        batch = w.settings.statistics.batch_images
        importance = mean_absolute_activation(w.mllm, self.bank.pixels, portraits.keys, batch)
        return Statistics(fisher_of_portraits(w.mllm, portraits, w.settings.statistics, "forget_vqa"), importance)
