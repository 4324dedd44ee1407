"""Retraining without the forget people's portraits: what every other method imitates."""

from collections.abc import Mapping

from torch import Tensor

from unsee.errors import UserError
from unsee.mllm import checkpoint
from unsee.sections import UnlearnSettings
from unsee.unlearning.method import Method


class Retrain(Method[UnlearnSettings]):
    """Takes the weights of the retrained model; nothing is trained here."""

    def before(self) -> Mapping[str, Tensor]:
        if self.work.retrained is None:
            raise UserError("method retrain needs the retrained model, which this run does not build")
        self.work.mllm.model.load_state_dict(checkpoint.load_full(self.work.retrained).model.state_dict())
        return {}
