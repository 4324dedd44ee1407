"""Float64 models want float64 pixels."""

from types import MethodType

from unsee.mllm.families import Llava


def see_in_float64(llava: Llava) -> Llava:
    """Pixels that `llava` prepares from now on are float64, as its weights are."""
    llava.pixels = MethodType(lambda self, images: Llava.pixels(self, images).double(), llava)
    return llava
