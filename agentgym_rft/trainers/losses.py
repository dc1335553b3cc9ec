"""Policy losses of single tokens, and the weights that add them up.

Surrogates never take a mean; the aggregation gives each token its weight from counts over the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentgym_rft.trainers.stages import Aggregation, LossInputs, Surrogate
from agentgym_rft.trainers.table import TokenTable, segment_sum


def clipped(clip_low: float, clip_high: float) -> Surrogate:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) per token.

    A token counts as clipped where the bound is the smaller term, so that its gradient is zero: r > 1 + clip_high
    with A > 0, or r < 1 - clip_low with A < 0.
    Source: PPO, arXiv 1707.06347 eq. 7; separate bounds: DAPO, arXiv 2503.14476 eq. 10.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        advantage = inputs.columns["advantage"]
        ratio = inputs.log_ratio.exp()
        free = ratio * advantage
        bounded = ratio.clamp(1 - clip_low, 1 + clip_high) * advantage
        return -torch.minimum(free, bounded), bounded < free

    return Surrogate("clipped", fn)


def token_mean() -> Aggregation:
    """Every counted token weighs the same: 1 / number of counted tokens."""

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        return counted / counted.sum().clamp_min(1)

    return Aggregation("token_mean", fn)


def sequence_mean() -> Aggregation:
    """Mean over the counted tokens of a trajectory, then over the trajectories that have any."""

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        lengths = segment_sum(counted, table.trajectory, table.num_trajectories)
        num_trajectories = (lengths > 0).sum().clamp_min(1)
        return counted / (lengths.clamp_min(1)[table.trajectory] * num_trajectories)

    return Aggregation("sequence_mean", fn)


def fixed_length(length: int) -> Aggregation:
    """Sum over a trajectory's tokens divided by a constant length, then mean over trajectories.

    Source: Dr. GRPO, arXiv 2503.20783 section 3.2.
    """

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        lengths = segment_sum(counted, table.trajectory, table.num_trajectories)
        return counted / (length * (lengths > 0).sum().clamp_min(1))

    return Aggregation("fixed_length", fn)
