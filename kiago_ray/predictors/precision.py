"""What the steps of a search compute in: single precision, or bfloat16 where a machine has instructions for it."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "mixed", "bfloat16"]
"""float32: everything. mixed: E_f's wide layers in bfloat16. bfloat16: those of both predictors."""


def step_precision(asked: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """What `asked` stands for on this device; "auto" depends on the type of machine alone."""
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 (AVX512-BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
