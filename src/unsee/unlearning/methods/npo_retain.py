"""Negative preference optimisation with L_r beside it."""

from collections.abc import Sequence

from unsee.unlearning.method import Term, Work, answer_terms
from unsee.unlearning.methods.npo import Npo


class NpoRetain(Npo):
    """NPO on forget portraits, cross-entropy on what must stay."""

    def terms(self, work: Work) -> Sequence[Term]:
        return [*super().terms(work), *answer_terms(work.preserved)]
