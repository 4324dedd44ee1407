"""Negative preference optimisation: L = -(2 / b) log sigmoid(-b log p / p_ref) on the forget portraits."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from unsee.mllm.rows import Outputs
from unsee.sections import UnlearnSettings
from unsee.unlearning.method import Method, Term, Work
from unsee.unlearning.references import AnswerLosses


class Settings(UnlearnSettings):
    """beta: 0.4 in the benchmark's code, 0.9 in its paper. reference: p_ref, the vanilla model as NPO defines it, or
    the retrained one as the paper describes it."""

    beta: float = Field(default=0.4, gt=0)
    reference: Literal["vanilla", "retrained"] = "vanilla"


class Npo(Method[Settings]):
    """The ascent fades as p falls below p_ref. Ratios are of whole answers: log-probabilities summed over tokens."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        reference = self._references[work.version]

        def loss(outputs: Outputs) -> Tensor:
            log_ratio = reference(outputs) - outputs.answer_losses
            return outputs.mean(-2 / self.settings.beta * F.logsigmoid(-self.settings.beta * log_ratio))

        return [Term("forget", work.forget, loss, forgets=True)]

    @cached_property
    def _references(self) -> Sequence[AnswerLosses]:
        """-log p_ref in each version of the portraits."""
        return [AnswerLosses.of(rows) for rows in self.work.forget_seen_by(self.settings.reference)]
