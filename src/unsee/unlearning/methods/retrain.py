"""Retraining without the forget people's portraits: what every other method imitates."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from unsee.errors import UserError
from unsee.mllm.stored import copy_into, weights
from unsee.sections import UnlearnSettings
from unsee.unlearning.method import Method


class Settings(UnlearnSettings):
    """The whole model is another."""

    scope: Literal["full"] = "full"


class Retrain(Method[Settings]):
    """Takes the weights of the retrained model; nothing is trained here."""

    Settings = Settings

    def before(self) -> Mapping[str, Tensor]:
        if self.work.retrained is None:
            raise UserError("method retrain needs the retrained model, which this run does not build")
        model = self.work.mllm.model
        copy_into(model, weights(self.work.retrained, model))
        return {}
