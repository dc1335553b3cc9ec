"""Which groups, trajectories and tokens a step learns from."""

from __future__ import annotations

from agentgym_rft.core import Group


def has_signal(group: Group) -> bool:
    """Whether the valid trajectories of a group differ in return; if not, a group-relative advantage is zero."""
    returns = [trajectory.episode_return for trajectory in group.valid]
    return len(returns) > 1 and max(returns) > min(returns)
