"""Advantage stages that also choose trajectories: only the best of a group, or all but its median."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.advantages import (
    Scale,
    group_counts,
    group_max,
    group_median,
    group_relative,
    group_std,
    to_tokens,
    unit_returns,
)
from agentgym_rft.trainers.algorithms.parts import Context, Stage
from agentgym_rft.trainers.algorithms.units import Unit, unit_key
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

Select = Literal["best", "threshold"]
MadFallback = Literal["std", "none", "released"]

MAD_EPSILON = 1e-3
BESIDE_MEDIAN = "beside_median"


def count_tokens(unit: Unit) -> Stage:
    """Return the column `unit_tokens`: how many trained tokens each token's unit has."""

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        key, num = unit_key(table, unit)
        return {"unit_tokens": torch.bincount(key, minlength=num)[key].float()}

    return Stage("count_tokens", fn, frozenset(), frozenset({"unit_tokens"}))


def selected(select: Select, threshold: float, unit: Unit, gamma: float) -> Stage:
    """Return advantage 1 for what is worth imitating, 0 for the rest.

    `best`: units with the largest return of their group, all of them if several have it, also where all are equal.
    `threshold`: units with at least that return. Source: RAFT, arXiv 2304.06767 (best of K); arXiv 2504.11343
    (all correct ones).
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        returns, key = unit_returns(table, unit, gamma)
        is_good = returns >= (threshold if select == "threshold" else group_max(returns, key, table.num_groups))
        return {"advantage": to_tokens(is_good.double(), table, unit)}

    needs = "episode_return" if unit == "trajectory" else "reward"
    return Stage("selected", fn, frozenset({needs}), frozenset({"advantage"}))


def median_deviation(fallback: MadFallback) -> Scale:
    """Return median of |R - median R| of each group plus 1e-3, [T].

    It is 0 in any group more than half of which has the same return, so in most groups of binary rewards. There,
    `std` divides by the standard deviation about the median (divisor G - 1, plus 1e-6), `none` by 1, and `released` by
    1e-3, which makes advantages of 1000 and is what the authors' code does.
    """

    def fn(centred: Tensor, key: Tensor, num_groups: int) -> Tensor:
        deviation = group_median(centred.abs(), key, num_groups)
        if fallback == "released":
            return deviation + MAD_EPSILON
        other = group_std(centred, key, num_groups) if fallback == "std" else torch.ones_like(centred)
        return torch.where(deviation > 0, deviation + MAD_EPSILON, other)

    return fn


def median_advantage(scale: Scale, unit: Unit, gamma: float, *, rescale: bool) -> Stage:
    """Return (R - median R) / scale in each group; with `rescale` times G / members whose advantage is not zero.

    It also provides the column `beside_median`: 0 for one member at the median, 1 for all others. Where several are,
    it is one of those with the fewest tokens, so that the order of members does not matter.
    Source: MC-GRPO, arXiv 2601.22582; the rescaling is in src/open_r1/grpo_trainer_gsm.py of lotusroot-kim/MC-GRPO.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        returns, key = unit_returns(table, unit, gamma)
        values = group_relative(returns, key, table.num_groups, group_median, scale)
        is_median = values == 0
        if rescale:
            num_moved = segment_sum((~is_median).double(), key, table.num_groups).clamp_min(1)
            values = values * (group_counts(key, table.num_groups) / num_moved)[key]
        lengths = torch.bincount(*unit_key(table, unit)[:1], minlength=len(returns))
        kept = ~_first_shortest(is_median, lengths, key, table.num_groups)
        return {"advantage": to_tokens(values, table, unit), BESIDE_MEDIAN: to_tokens(kept.double(), table, unit)}

    needs = "episode_return" if unit == "trajectory" else "reward"
    return Stage("median_advantage", fn, frozenset({needs}), frozenset({"advantage", BESIDE_MEDIAN}))


def _first_shortest(candidates: Tensor, lengths: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return True for one of each group's candidates: the first of those with the smallest length, [T] bool."""
    size = torch.where(candidates, lengths.double(), torch.inf)
    shortest = torch.full((num_groups,), torch.inf, dtype=torch.float64, device=key.device)
    shortest = shortest.scatter_reduce(0, key, size, "amin")
    index = torch.arange(len(key), device=key.device)
    at = torch.where(candidates & (size == shortest[key]), index, len(key))
    first = torch.full((num_groups,), len(key), device=key.device).scatter_reduce(0, key, at, "amin")
    return index == first[key]
