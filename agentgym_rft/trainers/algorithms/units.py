"""Granularity: what `token`, `turn` and `trajectory` mean wherever a setting names them.

A unit says for what a number is computed (an advantage, an importance ratio, a clipping decision, an entropy).
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentgym_rft.config.run import AlgorithmSection, Place, Unit
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

__all__ = ["Unit", "first_of_unit", "unit_key", "unit_mean", "unit_sum"]


def unit_key(table: TokenTable, unit: Unit) -> tuple[Tensor, int]:
    """Return number of each token's unit [N], and how many units there are."""
    if unit == "turn":
        return table.turn, table.num_turns
    if unit == "trajectory":
        return table.trajectory, table.num_trajectories
    return torch.arange(table.num_tokens, device=table.turn.device), table.num_tokens


def unit_sum(values: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return for each token the sum of `values` [N] over its unit, [N]."""
    if unit == "token":
        return values
    key, num = unit_key(table, unit)
    return segment_sum(values, key, num)[key]


def unit_mean(values: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return for each token the mean of `values` [N] over its unit, [N]."""
    return unit_sum(values, table, unit) / unit_sum(torch.ones_like(values), table, unit)


def first_of_unit(table: TokenTable, unit: Unit) -> Tensor:
    """Return 1 for the first token of each unit, else 0, [N]: to take a statistic over units, each once."""
    first = torch.ones(table.num_tokens, device=table.turn.device)
    if unit != "token":
        key, _ = unit_key(table, unit)
        first[1:] = (key[1:] != key[:-1]).to(first.dtype)
    return first


def unit_of(section: AlgorithmSection, place: Place, default: Unit) -> Unit:
    """Return the unit of a place: its own setting, else `algorithm.granularity`, else the algorithm's default."""
    return section.units.get(place) or section.granularity or default
