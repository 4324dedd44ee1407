"""Gradient ascent: -L_f,vqa, and nothing that preserves."""

from collections.abc import Sequence

from unsee.mllm.rows import mean_loss
from unsee.unlearning.method import Method, SettingsT, Term, Work


class GradientAscent(Method[SettingsT]):
    """Ascend on the loss of the forget portraits."""

    def terms(self, work: Work) -> Sequence[Term]:
        return [Term("forget", work.forget, mean_loss, weight=-1.0, forgets=True)]
