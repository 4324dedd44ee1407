"""The product at work on a workload: what the steps call, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unsee.bench.workloads import Workload
from unsee.evaluation.asking import Asked, Examiner
from unsee.mllm.families import only_tunable
from unsee.mllm.rows import Portraits
from unsee.pruning import choose_neurons
from unsee.sections import StatisticsSettings
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.fisher import Fisher
from unsee.statistics.importance import Importance, unlearning_importance
from unsee.steps.collect_statistics import fisher_of_portraits
from unsee.steps.unlearn import QUESTION_SETS
from unsee.tracking import NoTracker
from unsee.training import Checkpoints
from unsee.unlearning.method import Work
from unsee.unlearning.references import reference_features
from unsee.unlearning.trainer import Unlearning


@dataclass(frozen=True)
class Statistics:
    """What pruning and the saliency mask are made from, of the portraits of some people."""

    fisher: Fisher
    importance: Importance


def statistics_of(portraits: Portraits, settings: StatisticsSettings, name: str) -> Statistics:
    """Importance and Fisher information, one pass each; `name` is shown as progress."""
    mllm, bank = portraits.mllm, portraits.bank
    importance = mean_absolute_activation(mllm, bank.pixels, portraits.keys, settings.batch_images, bank.frame)
    return Statistics(fisher_of_portraits(mllm, portraits, settings, name), importance)


def collect_statistics(work: Work, settings: StatisticsSettings) -> dict[str, Statistics]:
    """Of the forget and the retain portraits, by question set, as the pipeline collects them before it prunes."""
    people = zip(QUESTION_SETS, (work.request.forget, work.request.retain), strict=True)
    return {
        name: statistics_of(Portraits(work.mllm, work.bank, work.benchmark, of), settings, name) for name, of in people
    }


def with_statistics(work: Work, statistics: Mapping[str, Statistics]) -> Work:
    """The same work with them, and with the neurons that they say are to be pruned."""
    forget, *others = (found.importance for found in statistics.values())
    return replace(
        work,
        fisher={name: found.fisher for name, found in statistics.items()},
        pruned=choose_neurons(unlearning_importance(forget, others), work.pruning).chosen,
    )


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
        return statistics_of(portraits, w.settings.statistics, "forget_vqa")
