"""Model families: one class each, that says where things are in a model (docs/families.md)."""

from collections.abc import Mapping

from unsee.mllm.families.base import Frame, Mllm, Mlp, only_tunable, set_compute
from unsee.mllm.families.llava import Llava
from unsee.mllm.families.qwen_vl import Qwen2Vl

__all__ = ["FAMILIES", "Frame", "Llava", "Mllm", "Mlp", "Qwen2Vl", "only_tunable", "set_compute"]

FAMILIES: Mapping[str, type[Mllm]] = {"llava": Llava, "qwen2_vl": Qwen2Vl}
"""By `model_type` in config.json."""
