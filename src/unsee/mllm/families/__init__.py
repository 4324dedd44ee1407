"""Model families: one class each, that says where things are in a model (docs/families.md)."""

from collections.abc import Mapping

from unsee.mllm.families.base import Frame, Mllm
from unsee.mllm.families.llava import Llava, LlavaNext, LlavaOnevision
from unsee.mllm.families.mistral3 import Mistral3
from unsee.mllm.families.parts import Mlp, finer, only_tunable
from unsee.mllm.families.qwen_vl import Qwen2_5Vl, Qwen2Vl, Qwen3Vl
from unsee.mllm.families.shuffled import Idefics3, InternVl, SmolVlm
from unsee.mllm.families.siglip import Gemma3, PaliGemma

__all__ = ["FAMILIES", "Frame", "Llava", "Mllm", "Mlp", "Qwen2Vl", "finer", "only_tunable"]

FAMILIES: Mapping[str, type[Mllm]] = {
    "llava": Llava,
    "llava_next": LlavaNext,
    "llava_onevision": LlavaOnevision,
    "qwen2_vl": Qwen2Vl,
    "qwen2_5_vl": Qwen2_5Vl,
    "qwen3_vl": Qwen3Vl,
    "gemma3": Gemma3,
    "paligemma": PaliGemma,
    "internvl": InternVl,
    "idefics3": Idefics3,
    "smolvlm": SmolVlm,
    "mistral3": Mistral3,
}
"""By `model_type` in config.json."""
