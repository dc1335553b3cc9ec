"""How the trajectories of one group come about. A strategy is a coroutine; `STRATEGIES` maps names to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from agentgym_rft.core import Group, Trajectory
from agentgym_rft.rollouts.episode import EpisodeSpec
from agentgym_rft.rollouts.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group to roll out: `base` with its group id, and how many trajectories."""

    base: EpisodeSpec
    group_size: int
    max_retries: int = 0


class Player(Protocol):
    """What a strategy needs of the workers."""

    async def play(self, spec: EpisodeSpec) -> Trajectory: ...


Strategy = Callable[[GroupPlan, Player], Awaitable[Group]]


async def plain(plan: GroupPlan, player: Player) -> Group:
    """Independent episodes of one task. An errored one is played again, at most `max_retries` times."""
    members = await asyncio.gather(*(_with_retries(plan, player, i) for i in range(plan.group_size)))
    attempts = tuple(t for member in members for t in member)
    return Group(group_id=plan.base.group_id, task_id=plan.base.task_id, trajectories=attempts)


async def _with_retries(plan: GroupPlan, player: Player, member: int) -> list[Trajectory]:
    """The attempts of one member: errored ones are kept, as data."""
    attempts: list[Trajectory] = []
    for attempt in range(plan.max_retries + 1):
        name = f"{plan.base.group_id}/{member}" + (f".{attempt}" if attempt else "")
        seed = derive_seed(plan.base.seed, member, attempt)
        attempts.append(await player.play(replace(plan.base, episode_id=name, seed=seed)))
        if not attempts[-1].is_error:
            break
    return attempts


STRATEGIES: dict[str, Strategy] = {"plain": plain}
