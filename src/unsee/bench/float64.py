"""A model that really computes in float64: some of transformers' layers round to float32 whatever the model's dtype."""

from types import MethodType

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRMSNorm

from unsee.mllm.families import Mllm


def to_float64(mllm: Mllm) -> None:
    """Convert in place, so that exactness can be told from rounding."""
    mllm.model.to(torch.float64)
    for module in mllm.model.modules():
        if isinstance(module, LlamaRMSNorm | Qwen2VLRMSNorm):
            module.forward = MethodType(_rms_norm, module)
    modeling_qwen2_vl.apply_rotary_pos_emb_vision = _rotated  # no method of a layer; other dtypes get the same bits


def _rms_norm(module: LlamaRMSNorm | Qwen2VLRMSNorm, hidden: Tensor) -> Tensor:
    return module.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + module.variance_epsilon)


def _rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    turned = modeling_qwen2_vl.apply_rotary_pos_emb(query, key, cos, sin, unsqueeze_dim=-2)
    return turned[0].to(query.dtype), turned[1].to(key.dtype)
