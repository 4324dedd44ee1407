"""FLOPs of fused attention on the CPU: torch's FlopCounterMode knows the kernels of GPUs only."""

from collections.abc import Sequence
from typing import Any

import torch

Shape = Sequence[int]


def _attention_flops(
    query: Shape, key: Shape, _value: Shape, _dropout: float = 0.0, causal: bool = False, **_: Any
) -> int:
    """Scores and their weighted sum, of the pairs that see each other."""
    *heads, tokens, width = query
    pairs = tokens * (tokens + 1) // 2 if causal else tokens * key[-2]
    return 4 * torch.Size(heads).numel() * pairs * width


def _attention_backward_flops(
    _gradient: Shape,
    query: Shape,
    key: Shape,
    value: Shape,
    _out: Shape,
    _sums: Shape,
    dropout: float,
    causal: bool,
    **_: Any,
) -> int:
    """Gradients of both factors of both products; what the kernel computes again is not counted."""
    return 2 * _attention_flops(query, key, value, dropout, causal)


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
"""As FlopCounterMode takes it (`custom_mapping`)."""
