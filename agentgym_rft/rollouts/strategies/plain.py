"""Independent episodes."""

from __future__ import annotations

import asyncio

from agentgym_rft.core import Group
from agentgym_rft.rollouts.strategies.base import GroupPlan, RolloutWorkers, attempts, register_strategy


@register_strategy("plain")
async def plain(plan: GroupPlan, workers: RolloutWorkers) -> Group:
    """Independent episodes of one task. An errored one is played again, at most `max_retries` times."""
    members = await asyncio.gather(*(attempts(plan, workers, member) for member in range(plan.group_size)))
    trajectories = tuple(t for member in members for played in member for t in played.trajectories)
    return Group(group_id=plan.base.group_id, task_id=plan.base.task_id, trajectories=trajectories)
