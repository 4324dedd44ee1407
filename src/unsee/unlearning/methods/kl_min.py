"""KL minimisation: forget, and keep the answers' distributions on the retain set those of the vanilla model."""

from collections.abc import Sequence
from typing import Literal

from unsee.mllm.rows import mean_loss
from unsee.sections import UnlearnSettings
from unsee.unlearning.method import Method, Term, Work
from unsee.unlearning.references import kl_term


class Settings(UnlearnSettings):
    """forget_term: `loss` ascends on L_f,vqa, as the benchmark's code does; `kl` on KL(M0 || M), the paper's words,
    whose gradient is nothing but rounding until the model has left M0."""

    forget_term: Literal["loss", "kl"] = "loss"


class KlMinimisation(Method[Settings]):
    """-L_f,vqa (or -KL on D_f) + KL(M0 || M) on D_r, at answer tokens only."""

    Settings = Settings

    def terms(self, work: Work) -> Sequence[Term]:
        forget, head = work.forget, self.work.vanilla_head
        if self.settings.forget_term == "loss":
            ascent = Term("forget", forget, mean_loss, weight=-1.0, forgets=True)
        else:
            ascent = kl_term("forget", forget, forget, head=head, weight=-1.0, forgets=True)
        return [ascent, *(kl_term(name, rows, rows, head=head) for name, rows in work.preserved.items())]
