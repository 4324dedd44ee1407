"""Visual knowledge distillation (Eq. 3-5): ascend on forgotten portraits, hold everyone else's features and answers.

min  L_r,vqa + beta * L_VKD - alpha * m (.) L_f,vqa        (the qa terms have no gradient: the LLM is frozen)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unsee.unlearning.objective import Losses
from unsee.unlearning.visual import Outputs, mean_loss


@dataclass(frozen=True)
class Vkd:
    """alpha, beta: as in Eq. 5 and 3. bound: nats of -log p(answer) beyond which a question is no longer ascended.

    teacher: the vanilla model's projector output [N, D] per retain image.
    """

    alpha: float
    beta: float
    bound: float | None
    teacher: Mapping[str, Tensor]

    def forget(self, outputs: Outputs) -> Losses:
        """-alpha * L_f,vqa, flat for questions that are already as wrong as the bound asks."""
        reached = torch.zeros_like(outputs.losses, dtype=torch.bool)
        if self.bound is not None:
            reached = outputs.answer_losses >= self.bound
        ascended = torch.where(reached, outputs.losses.detach(), outputs.losses)
        forget = mean_loss(replace(outputs, losses=ascended))
        return Losses(-self.alpha * forget, {"forget_loss": forget})

    def preserve(self, outputs: Outputs) -> Losses:
        """L_r,vqa + beta * L_VKD."""
        retain = mean_loss(outputs)
        vkd = distillation_loss(outputs.features, torch.stack([self.teacher[image] for image in outputs.images]))
        return Losses(retain + self.beta * vkd, {"retain_loss": retain, "vkd_loss": vkd})


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_VKD (Eq. 4), scale-free: ||f - t||^2 / ||t||^2 per image, averaged over images. f, t: [B, N, D]."""
    difference = (student - teacher).square().flatten(1).sum(dim=1)
    return (difference / teacher.square().flatten(1).sum(dim=1)).mean()
