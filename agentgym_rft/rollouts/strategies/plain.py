"""Independent episodes, each played again after an error."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agentgym_rft.core import Group
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.strategies.base import GroupPlan, RolloutWorkers, register_strategy


@register_strategy("plain")
async def plain(plan: GroupPlan, workers: RolloutWorkers) -> Group:
    """Play independent episodes of one task. An errored one is played again, at most `max_retries` times."""
    members = await asyncio.gather(*(attempts(plan, workers, member) for member in range(plan.group_size)))
    trajectories = tuple(t for member in members for played in member for t in played.trajectories)
    return Group(group_id=plan.base.group_id, task_id=plan.base.task_id, trajectories=trajectories)


async def attempts(plan: GroupPlan, workers: RolloutWorkers, member: int) -> list[EpisodeRecord]:
    """Return the attempts of one member: an errored one is kept, as data, and played again, `max_retries` times."""
    played: list[EpisodeRecord] = []
    for attempt in range(plan.max_retries + 1):
        name = f"{plan.base.group_id}/{member}" + (f".{attempt}" if attempt else "")
        seed = derive_seed(plan.base.seed, member, attempt)
        played.append(await workers.record(replace(plan.base, episode_id=name, seed=seed)))
        if not played[-1].trajectory.is_error:
            break
    return played
