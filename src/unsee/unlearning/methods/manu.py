"""MANU: prune the neurons of tower and LLM that work for the forget portraits; nothing is trained.

Here an importance is held against that for all that must stay, facts about the forget people by name among it, where
the paper holds it against the retain set's.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from unsee.mllm.families import Mlp
from unsee.mllm.rows import Rows
from unsee.pruning import zero
from unsee.sections import ThresholdSettings, UnlearnSettings
from unsee.statistics.importance import ratio
from unsee.thresholds import select
from unsee.unlearning.method import Method


class Settings(UnlearnSettings):
    """fraction: share of the neurons to prune, of the tower's and of the LLM's each, in all layers."""

    scope: Literal["full"] = "full"
    fraction: float = Field(default=0.05, gt=0, lt=1)


class Manu(Method[Settings]):
    """Prunes the neurons with the largest ratio of importance for D_f,vqa to that for everything else.

    Importance is the sum of four: mean absolute activation, frequency of activation, variance and root mean square,
    each as a ratio of its own. Tower and LLM are ranked apart: their activations are not on one scale, and by name
    only the LLM is active.
    """

    Settings = Settings

    def before(self) -> Mapping[str, Tensor]:
        mllm = self.work.mllm
        for part, mlps in {"Tower": mllm.tower_mlps(), "LLM": mllm.llm_mlps()}.items():
            chosen = select(self._importance(mlps), ThresholdSettings(fraction=self.settings.fraction)).chosen
            for mlp in mlps:
                zero(mlp, chosen[mlp.layer])
            self.pruned[part] = chosen
        return {}

    def _importance(self, mlps: Sequence[Mlp]) -> dict[int, Tensor]:
        """Layer -> [neurons]."""
        work = self.work
        forget, *others = [
            activation_measures(mlps, rows)
            for rows in (work.forget, work.retain, work.forget_by_name, work.retain_by_name)
        ]
        return {mlp.layer: ratio(forget[mlp.layer], [other[mlp.layer] for other in others]).sum(dim=0) for mlp in mlps}


@torch.no_grad()
def activation_measures(mlps: Sequence[Mlp], rows: Rows) -> dict[int, Tensor]:
    """Mean |z|, share of z > 0, variance and root mean square of every neuron over tokens, then rows.

    Tokens are those of the prefix, once, and of all questions behind it; where questions share no prefix, those of one
    question, and the mean is over questions too. One row at a time: no padding takes part. Returns layer ->
    [4, neurons]; zeros where a layer does not run.
    """
    device = mlps[0].outgoing.weight.device
    summed = {mlp.layer: torch.zeros(4, mlp.outgoing.in_features, device=device) for mlp in mlps}
    parts = 1

    def measure(layer: int, z: Tensor) -> None:
        z = z.flatten(0, -2)
        measures = [z.abs().mean(0), (z > 0).float().mean(0), z.var(0, unbiased=False), z.square().mean(0).sqrt()]
        summed[layer] += torch.stack(measures) / parts

    hooks = [
        mlp.outgoing.register_forward_pre_hook(lambda _, inputs, layer=mlp.layer: measure(layer, inputs[0]))
        for mlp in mlps
    ]
    try:
        for key in rows.keys:
            apart = rows.apart(key)
            parts = len(rows.keys) * len(apart)
            for questions in apart:
                rows.everywhere(key, questions)
    finally:
        for hook in hooks:
            hook.remove()
    return summed
