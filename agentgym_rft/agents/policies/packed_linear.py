"""Linear layers on a CPU by oneDNN, with copies of their weights in its own layout, as compiled models have them.

torch multiplies by a float32 matrix with MKL, which is slow for few rows, as sampling has them: 8 rows by 576 x 1,536
weights take 1.5 times as long as here, 64 rows 1.2 times (AMD EPYC with AVX-512, one thread; `benchmarks/linear.py`).
With AVX2 alone 8 rows take 1.2 times as long, and from 64 rows on MKL is the faster one.
Small matrices, which stay in the processor's cache, are left to torch. The copies cost the weights' memory once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 2**18  # weights of a matrix
MOST_ROWS = 32 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 2**31


class PackedLinears:
    """The large linear layers of a model: those of float32 on a CPU, where torch has oneDNN."""

    def __init__(self, model: nn.Module) -> None:
        found = [module for module in model.modules() if type(module) is nn.Linear]
        self._layers = [layer for layer in found if _fits(layer.weight)] if torch.backends.mkldnn.is_available() else []  # type: ignore[no-untyped-call]
        self._forwards: list[tuple[nn.Linear, partial[Tensor]]] = []

    @property
    def num_copies(self) -> int:
        """Copies that are held now."""
        return len(self._forwards)

    def renew(self) -> None:
        """Forget the copies, because the weights have changed."""
        self._forwards = []

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the layers compute with the copies while the block runs. There are no gradients."""
        if self._layers and not self._forwards:
            self._forwards = [(layer, _packed(layer)) for layer in self._layers]
        for layer, forward in self._forwards:
            layer.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer, _ in self._forwards:
                with suppress(AttributeError):
                    del layer.forward


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= SMALLEST


def _packed(layer: nn.Linear) -> partial[Tensor]:
    """Return the forward pass of a layer, with a copy of its weights."""
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
    return partial(_linear, layer, weight)


def _linear(layer: nn.Linear, weight: Tensor, rows: Tensor) -> Tensor:
    if rows.numel() > MOST_ROWS * layer.in_features:
        return F.linear(rows, layer.weight, layer.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, layer.bias, "none", [], "")
    return product
