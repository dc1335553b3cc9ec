"""Advantages = baseline x scale x unit, each a pure function over values and a group key.

Statistics are float64 and taken over the global batch. A group whose values are all equal has exactly zero advantage,
so that rounding errors cannot become a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from agentgym_rft.core import RETURN_DIGITS, return_decimals
from agentgym_rft.trainers.algorithms.parts import Context, Stage
from agentgym_rft.trainers.algorithms.units import Unit
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

MAX_DECIMALS = 300  # torch rounds by way of 10**decimals, a float64
STD_EPSILON = 1e-6

Baseline = Callable[[Tensor, Tensor, int], Tensor]  # values [T], group key [T], number of groups -> [T]
Scale = Callable[[Tensor, Tensor, int], Tensor]  # centred values [T], group key, number of groups -> divisor [T]


def group_mean(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return mean of the group's values, [T]. Source: GRPO, arXiv 2402.03300 section 4.1.2."""
    mean = segment_sum(values, key, num_groups) / group_counts(key, num_groups)
    return torch.where(is_constant(values, key, num_groups), values, mean[key])


def leave_one_out(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return mean of the other values in the group, [T]; a value without others is its own baseline.

    Source: RLOO, Ahmadian et al. 2024, arXiv 2402.14740 section 3.3.
    """
    others = (group_counts(key, num_groups)[key] - 1).clamp_min(1)
    baseline = (segment_sum(values, key, num_groups)[key] - values) / others
    return torch.where(is_constant(values, key, num_groups), values, baseline)


def unscaled(centred: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Ones: the advantage keeps the unit of the reward. Source: Dr. GRPO, arXiv 2503.20783 eq. 3."""
    return torch.ones_like(centred)


def group_std(centred: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return the sample standard deviation (divisor G - 1) of each group plus 1e-6, [T].

    The paper writes std without naming the divisor; G - 1 is what TRL and verl compute.
    Source: GRPO, arXiv 2402.03300 section 4.1.2.
    """
    divisor = (group_counts(key, num_groups) - 1).clamp_min(1)
    variance = segment_sum(centred.square(), key, num_groups) / divisor
    return variance.sqrt()[key] + STD_EPSILON


def constant_baseline(value: float) -> Baseline:
    """Return the same number for everything; 0 leaves returns as they are."""
    return lambda values, key, num_groups: torch.full_like(values, value)


def shifted(baseline: Baseline, shift: float) -> Baseline:
    """Return a baseline plus a constant. Below the mean (shift < 0) successes count more than failures do.

    A group of equal returns then has the advantage -shift. Source: AsymRE, arXiv 2506.20520.
    """
    return lambda values, key, num_groups: baseline(values, key, num_groups) + shift


def log_mean_exp(tau: float) -> Baseline:
    """Return tau ln(mean of exp(R / tau)) of the group, [T]: between the group's mean and its maximum.

    Source: OPMD, arXiv 2509.24203; trinity/algorithm/advantage_fn/opmd_advantage.py of Trinity-RFT.
    """

    def fn(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
        highest = group_max(values, key, num_groups)
        mass = segment_sum(((values - highest) / tau).exp(), key, num_groups) / group_counts(key, num_groups)
        return torch.where(is_constant(values, key, num_groups), values, highest + tau * mass.log()[key])

    return fn


def group_max(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return largest value of the group, [T]."""
    highest = torch.full((num_groups,), -torch.inf, dtype=values.dtype, device=values.device)
    return highest.scatter_reduce(0, key, values, "amax")[key]


def group_median(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return median of the group's values, the lower of the middle two in even groups, [T].

    Source: MC-GRPO, arXiv 2601.22582.
    """
    order = values.sort(stable=True).indices
    order = order[key[order].sort(stable=True).indices]
    counts = torch.bincount(key, minlength=num_groups)
    middle = counts.cumsum(0) - counts + (counts - 1).clamp_min(0) // 2
    return values[order][middle[key]]


def group_counts(key: Tensor, num_groups: int) -> Tensor:
    """Return members of each group, [num_groups] float64."""
    return segment_sum(torch.ones_like(key, dtype=torch.float64), key, num_groups)


def is_constant(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return for each value whether all values of its group are equal, [T] bool."""
    low = torch.full((num_groups,), torch.inf, dtype=values.dtype, device=values.device)
    low = low.scatter_reduce(0, key, values, "amin")
    high = (-torch.full_like(low, torch.inf)).scatter_reduce(0, key, values, "amax")
    return (high - low <= 0)[key]


def group_relative(values: Tensor, key: Tensor, num_groups: int, baseline: Baseline, scale: Scale) -> Tensor:
    """Return (value - baseline) / scale within each group, [T].

    A difference that only rounding makes, as between equal values and their mean, is 0.
    """
    centred = values - baseline(values, key, num_groups)
    is_rounding = centred.abs() <= 10**-RETURN_DIGITS * group_max(values.abs(), key, num_groups)
    centred = torch.where(is_rounding, 0.0, centred)
    return centred / scale(centred, key, num_groups)


def turn_returns(rewards: Tensor, turn_trajectory: Tensor, gamma: float) -> Tensor:
    """Return discounted sum of each turn's reward and those after it in its trajectory, [M].

    Turns lie in order, trajectory by trajectory, as in the token table.
    """
    returns = torch.zeros_like(rewards)
    following = 0.0
    for turn in range(len(rewards) - 1, -1, -1):
        is_last = turn + 1 == len(rewards) or turn_trajectory[turn + 1] != turn_trajectory[turn]
        following = float(rewards[turn]) + (0.0 if is_last else gamma * following)
        returns[turn] = following
    return returns


def unit_returns(table: TokenTable, unit: Unit, gamma: float) -> tuple[Tensor, Tensor]:
    """Return each unit's return and group: of episodes [T], discounted ones of turns [M], or those of tokens [N].

    A token's return is its turn's: rewards come with turns. The difference from `turn` is what statistics count.
    """
    if unit == "trajectory":
        return table.trajectory_columns["episode_return"], table.trajectory_group
    returns = turn_returns(table.turn_columns["reward"].cpu(), table.turn_trajectory.cpu(), gamma)
    if len(returns):
        decimals = min(return_decimals(float(returns.abs().max())), MAX_DECIMALS)
        returns = torch.round(returns, decimals=decimals)
    returns = returns.to(table.turn.device)
    if unit == "turn":
        return returns, table.trajectory_group[table.turn_trajectory]
    return returns[table.turn], table.group


def to_tokens(values: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return values of units given to their tokens, [N] float32."""
    if unit == "trajectory":
        values = values[table.trajectory]
    elif unit == "turn":
        values = values[table.turn]
    return values.float()


def group_advantage(
    baseline: Baseline, scale: Scale = unscaled, *, unit: Unit = "trajectory", gamma: float = 1.0
) -> Stage:
    """Return the stage that gives every token its unit's return, relative to all such units of the group."""

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        returns, key = unit_returns(table, unit, gamma)
        values = group_relative(returns, key, table.num_groups, baseline, scale)
        return {"advantage": to_tokens(values, table, unit)}

    needs = "episode_return" if unit == "trajectory" else "reward"
    return Stage(f"{unit}_advantage", fn, frozenset({needs}), frozenset({"advantage"}))


def weigh_negative(weight: float) -> Stage:
    """Return an advantage transform: negative advantages times `weight`, positive ones as they are.

    Pushing down what failed spreads probability over everything else, which a policy that is sure of most of its tokens
    can only lose by. With weight 1/alpha this is R3L's positive amplification up to the learning rate.
    Source: R3L, arXiv 2601.03715 (positive amplification, alpha = 3).
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        advantage = table.columns["advantage"]
        return {"advantage": torch.where(advantage < 0, weight * advantage, advantage)}

    return Stage("weigh_negative", fn, frozenset({"advantage"}), frozenset({"advantage"}))
