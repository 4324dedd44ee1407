"""Float64 models want float64 pixels."""

from types import MethodType

from unsee.mllm.families import Mllm


def see_in_float64(mllm: Mllm) -> Mllm:
    """Pixels that `mllm` prepares from now on are float64, as its weights are."""
    mllm.pixels = MethodType(lambda self, images: type(self).pixels(self, images).double(), mllm)
    return mllm
