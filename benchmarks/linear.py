"""Products of a few rows by float32 weights: torch's own against oneDNN with weights in its layout, on one thread.

    python benchmarks/linear.py

Each row of the table is a layer of a small pretrained model, whose weights do not stay in the processor's cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from machine import describe
from torch import nn

from agentgym_rft.agents.policies.packed_linear import PackedLinears

LAYERS, TIMES = 24, 96  # as many copies of a layer as a model has, and calls


def seconds(call: Callable[[int], object]) -> float:
    """Return processor seconds of one call."""
    for number in range(LAYERS):
        call(number)
    start = time.process_time()
    for number in range(TIMES):
        call(number % LAYERS)
    return (time.process_time() - start) / TIMES


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{describe()}\n\n| rows | weights | torch, us | packed, us | ratio |\n|---|---|---|---|---|")
    for inputs, outputs in ((576, 1536), (1536, 576), (896, 4864)):
        layers = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for _ in range(LAYERS))
        linears = PackedLinears(layers)
        for rows in (1, 4, 8, 16, 64, 400):
            x = torch.randn(rows, inputs)
            with torch.inference_mode():
                own = seconds(lambda number, x=x, layers=layers: layers[number](x))
                with linears.used():
                    packed = seconds(lambda number, x=x, layers=layers: layers[number](x))
            print(f"| {rows} | {inputs} x {outputs} | {own * 1e6:.0f} | {packed * 1e6:.0f} | {packed / own:.2f} |")


if __name__ == "__main__":
    main()
