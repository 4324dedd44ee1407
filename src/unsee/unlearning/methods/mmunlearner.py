"""MMUnlearner: masked ascent on forget portraits, descent on everything else, over the whole model.

The mask takes a share of all weights together, where the paper's takes every weight above a fixed ratio.
"""

from collections.abc import Sequence

from pydantic import Field

from unsee.mllm.rows import mean_loss
from unsee.sections import ThresholdSettings, UnlearnSettings
from unsee.unlearning.method import Method, Term, Work, answer_terms
from unsee.unlearning.saliency import SaliencyMask


class Settings(UnlearnSettings):
    """alpha: weight of the ascent. mask: which weights are salient for D_f,vqa against all that must stay."""

    alpha: float = Field(default=1.0, gt=0)
    mask: ThresholdSettings = ThresholdSettings(fraction=0.5)


class MmUnlearner(Method[Settings]):
    """-alpha * m (.) L_f,vqa + L_f,qa + L_r,vqa + L_r,qa. The mask covers vision and language parts alike."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        ascent = Term("forget", work.forget, mean_loss, weight=-self.settings.alpha, forgets=True)
        return [ascent, *answer_terms(work.others)]

    def mask(self) -> SaliencyMask:
        return self.work.mask(self.settings.mask)
