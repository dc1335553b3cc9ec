"""Weights as plain arrays: Ray's object store holds them once a node, and every process reads them in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor as bytes, so that bfloat16, which numpy lacks, goes the same way."""

    data: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype
    shape: tuple[int, ...]


Packed = Mapping[str, PackedTensor]


def pack(weights: Mapping[str, Any]) -> dict[str, PackedTensor]:
    """The weights by name; of names that share one tensor only the first, which is all that `Policy.load` needs."""
    packed: dict[str, PackedTensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
        packed[name] = PackedTensor(data, tensor.dtype, tuple(tensor.shape))
    return packed


def unpack(packed: Packed) -> dict[str, torch.Tensor]:
    """The weights as tensors of their own: what lies in the object store may not be written to."""
    return {name: _tensor(each) for name, each in packed.items()}


def _tensor(packed: PackedTensor) -> torch.Tensor:
    tensor = torch.empty(packed.shape, dtype=packed.dtype)
    if tensor.numel():
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = packed.data
    return tensor
