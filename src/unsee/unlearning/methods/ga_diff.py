"""Gradient difference: -L_f,vqa + L_r in one joint step.

The benchmark's official script runs a whole ascent epoch and then a whole retain epoch instead.
"""

from collections.abc import Sequence

from unsee.unlearning.method import SettingsT, Term, Work, answer_terms
from unsee.unlearning.methods.ga import GradientAscent


class GradientDifference(GradientAscent[SettingsT]):
    """Ascend on forget portraits while descending on what must stay."""

    def terms(self, work: Work) -> Sequence[Term]:
        return [*super().terms(work), *answer_terms(work.preserved)]
