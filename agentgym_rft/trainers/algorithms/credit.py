"""Multi-turn credit: how an outcome is divided among the turns of a trajectory.

As in `advantages.py`, statistics are float64 and over the global batch. Auxiliary trajectories never enter them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.advantages import (
    STD_EPSILON,
    Scale,
    group_counts,
    group_max,
    group_mean,
    group_relative,
    is_constant,
    to_tokens,
    turn_returns,
    unit_returns,
)
from agentgym_rft.trainers.algorithms.distribution_stats import VALUE
from agentgym_rft.trainers.algorithms.parts import Context, Stage
from agentgym_rft.trainers.algorithms.units import first_of_unit, unit_mean
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

BestRule = Literal["threshold", "group_max"]
BestValue = Literal["alpha", "one", "none"]
EpisodeUnit = Literal["trajectory", "turn"]

VALUE_TARGET = "value_target"
TURN_START = "turn_start"
WHITEN_EPSILON = 1e-8


def group_mean_or_zero(values: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return mean of the group's values, 0 for a value that is alone, [T]. Source: the released code of R3L."""
    is_alone = group_counts(key, num_groups)[key] == 1
    return torch.where(is_alone, 0.0, group_mean(values, key, num_groups))


def population_std(centred: Tensor, key: Tensor, num_groups: int) -> Tensor:
    """Return standard deviation with divisor G of each group plus 1e-6, [T]."""
    variance = segment_sum(centred.square(), key, num_groups) / group_counts(key, num_groups)
    return variance.sqrt()[key] + STD_EPSILON


def is_best(returns: Tensor, key: Tensor, num_groups: int, rule: BestRule, threshold: float) -> Tensor:
    """Return whether each trajectory is one of its group's best, [T] bool.

    `group_max` asks for more than the group's mean, too: the paper's literal rule would reward a group in which every
    attempt failed.
    """
    if rule == "threshold":
        return returns >= threshold
    return (returns == group_max(returns, key, num_groups)) & ~is_constant(returns, key, num_groups)


def amplify_positive(alpha: float, best_rule: BestRule, best_value: BestValue, threshold: float = 1.0) -> Stage:
    """Return an advantage transform: positive advantages times `alpha`, the best trajectories set apart.

    The advantage of a best trajectory (`is_best`) is `alpha`, 1, or with `none` that of any other.
    Source: R3L, arXiv 2601.03715 (positive amplification, alpha = 3).
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        advantage = table.columns["advantage"]
        amplified = torch.where(advantage > 0, alpha * advantage, advantage)
        if best_value != "none":
            returns, key = table.trajectory_columns["episode_return"], table.trajectory_group
            best = is_best(returns, key, table.num_groups, best_rule, threshold)
            amplified = torch.where(best[table.trajectory], alpha if best_value == "alpha" else 1.0, amplified)
        return {"advantage": amplified}

    return Stage("amplify_positive", fn, frozenset({"advantage", "episode_return"}), frozenset({"advantage"}))


def anchor_groups(table: TokenTable) -> tuple[Tensor, int]:
    """Return number of each turn's anchor group [M], and how many there are: turns of a group taken in equal states."""
    group = table.trajectory_group[table.turn_trajectory]
    pairs = torch.stack([group, table.turn_columns["state"]])
    found, key = torch.unique(pairs, dim=1, return_inverse=True)
    return key, found.shape[1]


def group_in_group(scale: Scale, omega: float, gamma: float, episode_unit: EpisodeUnit = "trajectory") -> Stage:
    """Return the stage A = A_episode + omega * A_step.

    A_episode is the episode return relative to the group. A_step is the discounted return from a turn relative to that
    of all turns of the group that were taken in the same state; a state visited once gives 0. With `episode_unit` turn
    the group's statistics count an episode once a turn, as the released code does.
    Source: GiGPO, arXiv 2505.10978; gigpo/core_gigpo.py of langfengQ/verl-agent.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        episode, group = table.trajectory_columns["episode_return"], table.trajectory_group
        if episode_unit == "turn":
            episode, group = episode[table.turn_trajectory], group[table.turn_trajectory]
        whole = group_relative(episode, group, table.num_groups, group_mean, scale)
        returns, _ = unit_returns(table, "turn", gamma)
        key, num_anchors = anchor_groups(table)
        step = group_relative(returns, key, num_anchors, group_mean, scale)
        advantage = to_tokens(whole, table, episode_unit) + to_tokens(omega * step, table, "turn")
        return {"advantage": advantage}

    needs = frozenset({"episode_return", "reward", "state"})
    return Stage("group_in_group", fn, needs, frozenset({"advantage"}))


def modulate_by_entropy(k: float, k_next: float, zeta: float) -> Stage:
    """Return an advantage transform that trusts confident turns more: A_t <- A_t g_t + zeta f_{t+1}, then centred over
    turns.

    H_t is the mean token entropy of turn t, min-max scaled over the batch to h_t; g_t = exp(-k h_t) over its mean of
    the batch; f_t = exp(-k_next h_t), which a trajectory's last turn has no successor for. The bonus is added whatever
    the sign of A. All statistics are over the turns that count.
    Source: EMPG, arXiv 2509.09265 eq. 6 to 12.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        first = _counted_starts(table)
        turns = table.turn[first]
        entropy = unit_mean(table.columns["entropy"].double(), table, "turn")[first]
        if not len(turns):
            return {"advantage": table.columns["advantage"]}
        scaled = (entropy - entropy.min()) / (entropy.max() - entropy.min() + 1e-8)
        gain, confidence = (-k * scaled).exp(), (-k_next * scaled).exp()
        bonus = torch.zeros_like(gain)
        trajectory = table.turn_trajectory[turns]
        bonus[:-1] = torch.where(trajectory[1:] == trajectory[:-1], confidence[1:], 0.0)
        by_turn = torch.zeros(2, table.num_turns, dtype=torch.float64, device=turns.device)
        by_turn[:, turns] = torch.stack([gain / gain.mean(), zeta * bonus])
        values = table.columns["advantage"] * by_turn[0, table.turn] + by_turn[1, table.turn]
        centre = unit_mean(values, table, "turn")[first].mean()
        return {"advantage": (values - centre).float()}

    return Stage("modulate_by_entropy", fn, frozenset({"advantage", "entropy"}), frozenset({"advantage"}))


def _counted_starts(table: TokenTable) -> Tensor:
    """Return entries of the first token of every turn that counts, in the order of turns."""
    return (first_of_unit(table, "turn") * table.columns["counted"]).nonzero()[:, 0]


def normalised_turn_rewards(gamma: float) -> Stage:
    """Return the stage A_t = sum over k >= t of gamma^(k-t) r_k, after turn rewards and outcomes were normalised
    separately.

    The reward of a trajectory's last turn is its outcome, z-scored over the group's outcomes; the rewards of all other
    turns are z-scored over all such turns of the group. Both with population std; equal values give 0.
    Source: IGPO, arXiv 2510.14967 section 3.3.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        rewards, trajectory = table.turn_columns["reward"], table.turn_trajectory
        is_last = torch.ones_like(trajectory, dtype=torch.bool)
        is_last[:-1] = trajectory[1:] != trajectory[:-1]
        group = table.trajectory_group[trajectory]
        normalised = torch.zeros_like(rewards)
        for part in (is_last, ~is_last):
            normalised[part] = group_relative(rewards[part], group[part], table.num_groups, group_mean, population_std)
        returns = turn_returns(normalised.cpu(), trajectory.cpu(), gamma).to(rewards.device)
        return {"advantage": to_tokens(returns, table, "turn")}

    return Stage("normalised_turn_rewards", fn, frozenset({"reward"}), frozenset({"advantage"}))


def generalized_advantage(
    rewards: Tensor, values: Tensor, is_valued: Tensor, turn_trajectory: Tensor, gamma: float, lam: float
) -> Tensor:
    """Return GAE over turns, [M] float64: A_t = d_t + gamma lam A_{t+1}, d_t = r_t + gamma V_{t+1} - V_t.

    The value after an episode's last turn is 0, also where it was cut at its step limit: the limit is part of the task.
    A turn without a trained token has no value (`is_valued` False); it takes r_t + gamma V_{t+1}, so that d_t = 0.
    Source: Schulman et al. 2015, arXiv 1506.02438 eq. 16.
    """
    advantages = [0.0] * len(rewards)
    following = None
    next_value = next_advantage = 0.0
    columns = (column.tolist() for column in (rewards, values, is_valued, turn_trajectory))
    for turn, (reward, value, valued, trajectory) in reversed(list(enumerate(zip(*columns, strict=True)))):
        if trajectory != following:
            next_value, next_advantage = 0.0, 0.0
        target = reward + gamma * next_value
        value = value if valued else target
        advantages[turn] = target - value + gamma * lam * next_advantage
        following, next_value, next_advantage = trajectory, value, advantages[turn]
    return torch.tensor(advantages, dtype=torch.float64, device=rewards.device)


def critic_advantage(gamma: float, lam: float, *, whiten: bool) -> Stage:
    """Return the stage of PPO: GAE over turns, whitened over the turns that count if `whiten`.

    A turn's value is the critic's at its first trained token, that is of the context before it. It also provides
    `value_target` (advantage before whitening plus value) and `turn_start` (1 at those first tokens), for the value
    loss.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        start = first_of_unit(table, "turn").nonzero()[:, 0]
        values = torch.zeros_like(table.turn_columns["reward"])
        values[table.turn[start]] = table.columns[VALUE][start].double()
        is_valued = torch.zeros_like(values, dtype=torch.bool)
        is_valued[table.turn[start]] = True
        rewards = table.turn_columns["reward"]
        raw = generalized_advantage(rewards, values, is_valued, table.turn_trajectory, gamma, lam)
        counted = _counted_starts(table)
        turn_start = torch.zeros_like(table.columns["counted"]).index_fill_(0, counted, 1.0)
        advantage = whitened(raw, table.turn[counted]) if whiten else raw
        return {
            "advantage": to_tokens(advantage, table, "turn"),
            VALUE_TARGET: to_tokens(raw + values, table, "turn"),
            TURN_START: turn_start,
        }

    provides = frozenset({"advantage", VALUE_TARGET, TURN_START})
    return Stage("critic_advantage", fn, frozenset({"reward", VALUE}), provides)


def whitened(values: Tensor, chosen: Tensor) -> Tensor:
    """Return values with mean 0 and variance 1 over the chosen ones; zeros where those do not differ."""
    among = values[chosen]
    if len(among) < 2 or among.max() <= among.min():
        return torch.zeros_like(values)
    return (values - among.mean()) * (among.var() + WHITEN_EPSILON).rsqrt()


def constant_advantage() -> Stage:
    """Return the stage that gives every token advantage 1: what is trained on is imitated."""

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        return {"advantage": torch.ones_like(table.columns["behaviour_logprobs"])}

    return Stage("constant_advantage", fn, frozenset({"behaviour_logprobs"}), frozenset({"advantage"}))
