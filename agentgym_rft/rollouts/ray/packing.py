"""Weights as plain arrays. Ray's object store holds one copy on each node, which every process there reads in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor as bytes, because numpy has no bfloat16."""

    data: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype
    shape: tuple[int, ...]


Packed = Mapping[str, PackedTensor]


def pack(weights: Mapping[str, Any]) -> dict[str, PackedTensor]:
    """Return the weights by name.
    Where several names share a tensor, only the first is kept: `Policy.load` needs no more.
    """
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
    """Return the weights as copied tensors, since the object store is read-only."""
    return {name: _tensor(each) for name, each in packed.items()}


def _tensor(packed: PackedTensor) -> torch.Tensor:
    tensor = torch.empty(packed.shape, dtype=packed.dtype)
    if tensor.numel():
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = packed.data
    return tensor
