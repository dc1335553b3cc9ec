"""Matrix products whose rows do not depend on each other, bit for bit: the basis of batch-invariant sampling.

A library picks the routine of a matrix product, and with it the order of its sums, by the number of rows. Here
products have fixed shapes instead, so that a row always goes through the same routine:

- a linear layer multiplies tiles of `TOKENS` rows, the last one padded;
- queries meet keys in multiples of `ROWS` rows and `KEYS` keys, whose sums run over the head's size alone;
- weights meet values in blocks of `KEYS` positions, added one after another; positions beyond a row add zeros.

The number of packed tokens is a multiple of `TOKENS`, too: torch computes most of a tensor in vectors of fixed size and
the few numbers left over by another routine, which rounds functions such as exp differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

TOKENS = 32
ROWS = 4  # with fewer rows the library uses another routine, a product of vectors
KEYS = 128


class TiledLinear(TorchFunctionMode):
    """Makes linear layers (`F.linear`, and `torch.addmm` of a bias) compute tile by tile while it is active."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear:
            return _linear(*args, **(kwargs or {}))
        if func is torch.addmm and not kwargs and len(args) == 3:
            bias, rows, weight = args
            return _tiled(rows, weight, bias)
        return func(*args, **(kwargs or {}))


def _linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    rows = input.reshape(-1, input.shape[-1])
    return _tiled(rows, weight.t(), bias).view(*input.shape[:-1], weight.shape[0])


def _tiled(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rows @ weight + bias, [n, out]; `TOKENS` rows at a time."""
    count = rows.shape[0]
    rows = rounded_up(rows, 0, TOKENS)
    out = rows.new_empty(rows.shape[0], weight.shape[1])
    for start in range(0, rows.shape[0], TOKENS):
        tile = slice(start, start + TOKENS)
        if bias is None:
            torch.mm(rows[tile], weight, out=out[tile])
        else:
            torch.addmm(bias, rows[tile], weight, out=out[tile])
    return out[:count]


def scores(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return query @ keys^T, [B, R, L], of [B, R, D] and [B, L, D]; L is a multiple of `KEYS`."""
    count = query.shape[1]
    product = torch.bmm(rounded_up(query, 1, ROWS), keys.transpose(1, 2))
    return product if product.shape[1] == count else product[:, :count].contiguous()


def weighted(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return weights @ values, [B, R, D], of [B, R, L] and [B, L, D]; L is a multiple of `KEYS`."""
    count = weights.shape[1]
    weights = rounded_up(weights, 1, ROWS)
    out = torch.bmm(weights[:, :, :KEYS], values[:, :KEYS])
    for start in range(KEYS, weights.shape[2], KEYS):
        block = slice(start, start + KEYS)
        out.baddbmm_(weights[:, :, block], values[:, block])
    return out if out.shape[1] == count else out[:, :count].contiguous()


def rounded_up(tensor: torch.Tensor, dim: int, multiple: int) -> torch.Tensor:
    """Return the tensor with zeros at the end of a dimension, up to a multiple of its size."""
    missing = -tensor.shape[dim] % multiple
    if not missing:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)
