"""How a step computes: on which device, in which precision, and what is given up for memory.

`ComputeSettings` say what is wanted, a `Compute` what was made of it here.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import torch

from unsee.errors import UserError
from unsee.parallel import world
from unsee.progress import say
from unsee.sections import Bits, ComputeSettings


@dataclass(frozen=True)
class Compute:
    """What a model computes with. precision: of frozen weights, and of forward and backward; weights that are trained
    and what an optimiser knows of them are float32 at least. The rest is as in `ComputeSettings`."""

    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    llm_bits: Bits | None = None

    @classmethod
    def of(cls, settings: ComputeSettings, *, card: bool = False) -> "Compute":
        """What the settings come to on this machine; card: on one with a GPU that computes in bfloat16.

        Raises:
            UserError: CUDA is asked for, and there is none.
        """
        has_cuda = card or torch.cuda.is_available()
        if not has_cuda and settings.device == "cuda":
            raise UserError("compute.device = cuda, but torch finds no CUDA device here; use auto or cpu")
        device = settings.device if settings.device != "auto" else "cuda" if has_cuda else "cpu"
        fast = device == "cuda" and (card or torch.cuda.is_bf16_supported(including_emulation=False))
        precision = settings.precision if settings.precision != "auto" else "bfloat16" if fast else "float32"
        return cls(settings.threads, device, precision, settings.checkpointing, settings.llm_bits)

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch calls it."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]

    @property
    def facts(self) -> dict[str, str | int | bool | None]:
        """For records, inside the step: also how many processes share it."""
        return {**asdict(self), "processes": world()}

    def start(self) -> None:
        """Fix the thread count and flush denormals, and say what was chosen: equal inputs give equal bits only at an
        equal thread count."""
        threads = max(1, self.threads // world())
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        name = (
            torch.cuda.get_device_name()
            if self.device == "cuda"
            else f"the CPU with {threads} thread{'s' * (threads > 1)}"
        )
        light = ", activations computed twice" if self.checkpointing else ""
        small = f", the LLM in {self.llm_bits} bits" if self.llm_bits else ""
        shared = f" in each of {world()} processes" if world() > 1 else ""
        say(f"computing on {name}{shared} in {self.precision}{small}{light}")


PLAIN = Compute()
"""On the CPU, in float32."""
