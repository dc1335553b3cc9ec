"""Reward shaping: changes a group's rewards before advantages are computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from agentgym_rft.core import Group, Trajectory, add_reward
from agentgym_rft.trainers.algorithms.parts import RewardShaping
from agentgym_rft.trainers.batch.groups import has_signal

Length = Literal["tokens", "turns"]


def soft_overlong(length: float, limit: float, buffer: float) -> float:
    """Return 0 up to limit - buffer, falling linearly to -1 at the limit and beyond.

    Source: DAPO, arXiv 2503.14476 eq. 13.
    """
    return -min(max((length - (limit - buffer)) / buffer, 0.0), 1.0)


def with_reward(trajectory: Trajectory, name: str, value: float) -> Trajectory:
    """Return the trajectory with a named reward, which its last turn gets."""
    return add_reward(trajectory, name, {-1: value})


def overlong_penalty(unit: Length, limit: int, buffer: int, factor: float) -> RewardShaping:
    """Return the reward `overlong` of long trajectories: factor * `soft_overlong` of their action tokens or turns.

    A group whose returns are equal stays as it is, so that dynamic sampling, which comes first, knows it.
    """

    def length(trajectory: Trajectory) -> int:
        return trajectory.num_action_tokens if unit == "tokens" else len(trajectory.turns)

    def shaped(trajectory: Trajectory) -> Trajectory:
        penalty = factor * soft_overlong(length(trajectory), limit, buffer)
        return with_reward(trajectory, "overlong", penalty) if penalty else trajectory

    def fn(group: Group) -> Group:
        if not has_signal(group):
            return group
        return replace(group, trajectories=tuple(map(shaped, group.trajectories)))

    return RewardShaping("overlong_penalty", fn)
