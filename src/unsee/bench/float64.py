"""A model that really computes in float64: transformers' RMSNorm rounds to float32 whatever the model's dtype."""

from types import MethodType

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from unsee.mllm.families import Mllm


def to_float64(mllm: Mllm) -> None:
    """Convert in place, so that exactness can be told from rounding."""
    mllm.model.to(torch.float64)
    for module in mllm.model.modules():
        if isinstance(module, LlamaRMSNorm):
            module.forward = MethodType(_rms_norm, module)


def _rms_norm(module: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    return module.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + module.variance_epsilon)
