"""Visual knowledge distillation (Eq. 3-5): ascend on forgotten portraits, hold everyone else's features and answers.

min  L_r,vqa + beta * L_VKD - alpha * m (.) L_f,vqa        (the qa terms have no gradient: the LLM is frozen)
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from unsee.mllm.families import finer
from unsee.mllm.rows import Images, Outputs, Portraits, Seen, frozen_batch
from unsee.pruning import Pruned, choose_neurons, pruned_entries, zero_neurons
from unsee.sections import Scope, ThresholdSettings, UnlearnSettings
from unsee.statistics.activation import mean_absolute_activation
from unsee.statistics.importance import unlearning_importance
from unsee.unlearning.method import Method, Term, Work, answer_terms
from unsee.unlearning.references import reference_features
from unsee.unlearning.saliency import SaliencyMask


class Settings(UnlearnSettings):
    """alpha, beta: as in Eq. 5 and 3. mask: Eq. 11, None tunes every weight.

    answers: whether the portraits that stay are held by their answers too (L_r,vqa), for which the LLM must read them,
    or by their features alone. blends: L_VKD needs no answers, so it can be taken on that many blends of retain
    portraits a step, mostly of two people; 0 takes it on the step's retain portraits, as the paper does. bound: nats of
    -log p(answer) beyond which a question is no longer ascended. odds: ascend along the gradient of the log-odds, which
    does not vanish where an answer is sure as that of log p(answer) does, but is at most this many times as large; null
    ascends along the loss's own. order: of pruning (Eq. 8) and masked fine-tuning;
    `parallel` starts both from vanilla and adds the changes, `never` does not prune.
    """

    scope: Scope = "vision"
    alpha: float = Field(gt=0)
    beta: float = Field(ge=0)
    answers: bool = True
    blends: int = Field(default=0, ge=0)
    mask: ThresholdSettings | None
    bound: PositiveFloat | Literal["none"]
    odds: float | None = Field(default=None, ge=1)
    order: Literal["prune_then_mask", "mask_then_prune", "parallel", "never"] = "prune_then_mask"

    @model_validator(mode="after")
    def _holds_what_stays(self) -> "Settings":
        if not self.answers and self.beta == 0:
            raise ValueError("with answers = false and beta = 0 nothing holds the portraits that stay; set one of them")
        return self


class VisualKnowledgeDistillation(Method[Settings]):
    """The paper's method; its ablations are settings of it."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        terms = [Term("forget", work.forget, self._bounded, -self.settings.alpha, forgets=True)]
        others = work.others if self.settings.answers else {n: of for n, of in work.others.items() if n != "retain"}
        terms += answer_terms(others)
        if self.settings.beta > 0:
            terms.append(self._distillation(work))
        return terms

    def _distillation(self, work: Work) -> Term:
        """beta * L_VKD (Eq. 4)."""
        images = self._looked_at(work)
        teacher = reference_features(images, frozen_batch(work.mllm))

        def distance(seen: Seen) -> Tensor:
            wanted = torch.stack([teacher[key] for key in seen.keys]).to(seen.features.device)
            return distillation_loss(seen.features, wanted)

        return Term("vkd", images, distance, self.settings.beta)

    def _looked_at(self, work: Work) -> Images | Portraits:
        """The images that L_VKD is taken on; the LLM reads none that nothing is asked about."""
        if self.settings.blends:
            return work.blends(self.settings.blends)
        retain = work.retain
        return retain if self.settings.answers else Images(retain.keys, retain.see, retain.batch, retain.frame)

    def _bounded(self, outputs: Outputs) -> Tensor:
        """L_f,vqa, flat for questions that are already as wrong as the bound asks."""
        losses = outputs.losses if self.settings.odds is None else self._sped_up(outputs, self.settings.odds)
        if self.settings.bound == "none":
            return outputs.mean(losses)
        reached = outputs.answer_losses >= self.settings.bound
        return outputs.mean(torch.where(reached, losses.detach(), losses))

    @staticmethod
    def _sped_up(outputs: Outputs, limit: float) -> Tensor:
        """The losses [B, Q], their gradient times 1 / (1 - p): that of log p becomes that of log p / (1 - p)."""
        known = outputs.losses.detach()
        factor = (1 / -torch.expm1(-outputs.answer_losses.detach())).clamp(max=limit)
        return known + factor * (outputs.losses - known)

    def mask(self) -> SaliencyMask | None:
        return None if self.settings.mask is None else self.work.mask(self.settings.mask)

    def before(self) -> Mapping[str, Tensor]:
        if self.settings.order == "parallel":
            self._vanilla = {name: p.detach().clone() for name, p in self._pruned_parameters().items()}
        if self.settings.order != "prune_then_mask":
            return {}
        self._prune(self.work.pruned)
        return pruned_entries(self.work.mllm, self.work.pruned)

    @torch.no_grad()
    def after(self) -> None:
        if self.settings.order == "mask_then_prune":
            self._prune(self._neurons_as_they_are_now())
        elif self.settings.order == "parallel":
            self.pruned["Tower"] = self.work.pruned
            entries = pruned_entries(self.work.mllm, self.work.pruned)
            for name, parameter in self._pruned_parameters().items():
                parameter -= self._vanilla[name] * entries[name]

    def _prune(self, neurons: Pruned) -> None:
        self.pruned["Tower"] = neurons
        zero_neurons(self.work.mllm, neurons)

    def _pruned_parameters(self) -> Mapping[str, Tensor]:
        entries = pruned_entries(self.work.mllm, self.work.pruned)
        return {name: p for name, p in self.work.mllm.model.named_parameters() if name in entries}

    def _neurons_as_they_are_now(self) -> Pruned:
        """Eq. 6-8 on the fine-tuned model."""
        found = [
            mean_absolute_activation(
                self.work.mllm, self.work.bank.pixels, rows.keys, frozen_batch(self.work.mllm), self.work.bank.frame
            )
            for rows in (self.work.forget, self.work.retain)
        ]
        return choose_neurons(unlearning_importance(found[0], found[1:]), self.work.pruning).chosen


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_VKD (Eq. 4), scale-free: ||f - t||^2 / ||t||^2 per image, averaged over images. f, t: [B, N, D]."""
    student, teacher = student.to(finer(student.dtype)), teacher.to(finer(student.dtype))
    difference = (student - teacher).square().flatten(1).sum(dim=1)
    return (difference / teacher.square().flatten(1).sum(dim=1)).mean()
