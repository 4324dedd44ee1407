"""MMUnlearner: masked ascent on forget portraits, descent on everything else, over the whole model."""

from collections.abc import Sequence

from pydantic import Field

from unsee.settings import ThresholdSettings, UnlearnSettings
from unsee.statistics.fisher import fisher_of_rows
from unsee.unlearning.method import Method, Term, Work
from unsee.mllm.rows import Rows, mean_loss
from unsee.unlearning.saliency import SaliencyMask, saliency_mask


class Settings(UnlearnSettings):
    """alpha: weight of the ascent. mask: which weights are salient for D_f,vqa against all that must stay."""

    alpha: float = Field(default=1.0, gt=0)
    mask: ThresholdSettings = ThresholdSettings(fraction=0.5)


class MmUnlearner(Method[Settings]):
    """-alpha * m (.) L_f,vqa + L_f,qa + L_r,vqa + L_r,qa. The mask covers vision and language parts alike."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        ascent = Term("forget", work.forget, mean_loss, weight=-self.settings.alpha, forgets=True)
        return [ascent, *(Term(name, rows, mean_loss) for name, rows in _others(work).items())]

    def mask(self) -> SaliencyMask:
        sets = [self.work.forget, *_others(self.work).values()]
        forget, *others = [fisher_of_rows(self.work.parameters, rows) for rows in sets]
        return saliency_mask(forget, others, self.settings.mask)


def _others(work: Work) -> dict[str, Rows]:
    """Everything that must stay, the forget people by name included."""
    by_name = {"forget_by_name": work.forget_by_name} if work.settings.scope == "full" else {}
    return {**by_name, **work.preserved}
