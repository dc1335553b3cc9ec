"""Whether passes compute in bfloat16, where a setting leaves that to the device."""

from __future__ import annotations

from typing import Literal

import torch


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products in bfloat16; others emulate them, many times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def is_bfloat16(setting: bool | Literal["auto"], device: torch.device) -> bool:
    """Return what a setting means on a device; `auto`: bfloat16 where it is fast."""
    return multiplies_in_bfloat16(device) if setting == "auto" else setting
