"""Negative preference optimisation: L = -(2 / b) log sigmoid(-b log p / p_ref) on the forget portraits."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from unsee.mllm.rows import Outputs
from unsee.settings import UnlearnSettings
from unsee.unlearning.method import Method, Term, Work
from unsee.unlearning.references import AnswerLosses


class Settings(UnlearnSettings):
    """beta: 0.4 in the benchmark's code, 0.9 in its paper. reference: p_ref, the vanilla model as NPO defines it, or
    the retrained one as the paper describes it."""

    beta: float = 0.4
    reference: Literal["vanilla", "retrained"] = "vanilla"


class Npo(Method[Settings]):
    """The ascent fades as p falls below p_ref. Ratios are of whole answers: log-probabilities summed over tokens."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        reference = AnswerLosses.of(work.forget_seen_by(self.settings.reference))

        def loss(outputs: Outputs) -> Tensor:
            log_ratio = reference(outputs) - outputs.answer_losses
            return outputs.mean(-2 / self.settings.beta * F.logsigmoid(-self.settings.beta * log_ratio))

        return [Term("forget", work.forget, loss, forgets=True)]
