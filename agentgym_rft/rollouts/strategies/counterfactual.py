"""Counterfactual credit: how much better an episode ended than if one agent had acted differently in one turn.

The difference reward of a turn is d = G - mean G', with G the agent's own return in the episode (its share of the
team's included) and G' that of continuations from a fork in which this turn is replaced: by the environment's no-op
(`by: noop`), or by another sample of the policy (`by: policy`). The turn's reward and the trajectory's reward
`difference` grow by coef * d, so every algorithm sees it, at every granularity.

Difference rewards compare the global utility with that of a world in which an agent is clamped (Wolpert and Tumer 2001,
Optimal payoff functions for members of collectives, Advances in Complex Systems 4). Ours are sampled: one turn is
replaced instead of the whole agent; after it all agents play on and react to what they see. COMA (Foerster et al. 2018,
arXiv 1705.08926) asks the same question, but averages over the agent's other actions with a learned central critic and
keeps the other agents' actions. Ours needs no critic, costs more episodes, and is noisier. With `by: policy`, d is one
sample of the turn's advantage under the policy that plays.

The sum of d runs over the `turns` that were drawn; it is not scaled up to all turns of the agent. With `turns: 1` it
estimates the mean over the agent's turns, which is of the size of a return, however long the episode is. A sum over all
turns would count a shared result once for each turn that led to it. Use `coef` for another weight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from agentgym_rft.core import Group, Trajectory, add_reward, difference
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork, fork, own_turns
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.strategies.base import GroupPlan, RolloutWorkers, register_strategy
from agentgym_rft.rollouts.strategies.plain import attempts


@dataclass(frozen=True, slots=True)
class Replaced:
    """One turn of an agent and the continuations in which it was replaced."""

    turn: int  # of the episode, all agents' turns counted
    own: int  # of the agent's own
    continuations: tuple[EpisodeRecord, ...]

    def returns(self, agent: str) -> list[float]:
        """Return the agent's returns, without the continuations that broke."""
        own = [played.of(agent) for played in self.continuations]
        return [each.episode_return for each in own if not each.is_error]


@register_strategy("counterfactual", "team.counterfactual")
async def counterfactual(plan: GroupPlan, workers: RolloutWorkers) -> Group:
    """Independent episodes of one task, each with difference rewards for turns of its trained agents.

    A continuation with an error is left out and counted; a turn without any valid one gets no difference. Each
    trajectory's `info["counterfactual"]` describes them. Continuations are not members of the group.

    Raises:
        ConfigError: `by: noop` with one agent.
    """
    recorded = replace(plan, base=replace(plan.base, record_snapshots=True))
    members = await asyncio.gather(*(attempts(recorded, workers, member) for member in range(plan.group_size)))
    credited = await asyncio.gather(*(_credited(plan, workers, played) for member in members for played in member))
    trajectories = tuple(trajectory for episode in credited for trajectory in episode)
    return Group(group_id=plan.base.group_id, task_id=plan.base.task_id, trajectories=trajectories)


async def _credited(plan: GroupPlan, workers: RolloutWorkers, played: EpisodeRecord) -> tuple[Trajectory, ...]:
    """Return the trajectories of an episode, with the difference rewards of those that are trained."""
    if played.trajectory.is_error:
        return played.trajectories
    if plan.counterfactual.by == "noop" and not played.team:
        raise ConfigError("An environment with one agent has no no-op: write team.counterfactual.by=policy.")
    return tuple(await asyncio.gather(*(_judged(plan, workers, played, agent) for agent in played.agents)))


async def _judged(plan: GroupPlan, workers: RolloutWorkers, played: EpisodeRecord, agent: str) -> Trajectory:
    own = played.of(agent)
    chosen = _drawn(plan, played, agent)
    if own.is_error or not chosen:
        return own
    replaced = await asyncio.gather(*(_replaced(plan, workers, played, turn, number) for turn, number in chosen))
    return with_differences(own, agent, replaced, plan.counterfactual.coef, by_noop=plan.counterfactual.by == "noop")


def _drawn(plan: GroupPlan, played: EpisodeRecord, agent: str) -> list[tuple[int, int]]:
    """Return turns of an agent that are replaced, each as (number in the episode, number among its own), in order."""
    own = played.of(agent)
    taken = [number for number, turn in enumerate(played.trajectory.turns) if own_turns((turn,), agent)]
    able = [(turn, n) for n, turn in enumerate(taken) if own.turns[n].trainable and own.info.get("is_trained", True)]
    rng = np.random.default_rng(derive_seed(played.seed, "counterfactual", own.agent_id))
    number = min(plan.counterfactual.turns, len(able))
    return [able[index] for index in sorted(rng.choice(len(able), number, replace=False))] if able else []


async def _replaced(plan: GroupPlan, workers: RolloutWorkers, played: EpisodeRecord, turn: int, own: int) -> Replaced:
    section = plan.counterfactual
    start = fork(played, turn, is_noop=section.by == "noop")
    samples = (_continued(plan, workers, start, sample) for sample in range(section.samples))
    return Replaced(turn, own, tuple(await asyncio.gather(*samples)))


async def _continued(plan: GroupPlan, workers: RolloutWorkers, start: Fork, sample: int) -> EpisodeRecord:
    """Return one continuation.

    The first one after a no-op has the random state of the episode, so agents that do not see the change act as before.
    """
    parent = start.parent
    name = f"{parent.trajectory.episode_id}/counterfactual/{start.turn}.{sample}"
    is_paired = start.is_noop and sample == 0
    seed = parent.seed if is_paired else derive_seed(parent.seed, "counterfactual", start.turn, sample)
    return await workers.record(replace(plan.base, episode_id=name, seed=seed), start)


def with_differences(
    own: Trajectory, agent: str, replaced: Sequence[Replaced], coef: float, *, by_noop: bool
) -> Trajectory:
    """Return an agent's trajectory with the difference rewards of its replaced turns, and what they cost in its
    info.
    """
    differences: dict[int, float] = {}
    for each in replaced:
        returns = each.returns(agent)
        if returns:
            differences[each.own] = difference(own.episode_return, fmean(returns))
    paid = add_reward(own, "difference", {turn: coef * value for turn, value in differences.items()})
    record = _record(agent, replaced, differences, by_noop=by_noop)
    return replace(paid, info={**paid.info, "counterfactual": record})


def _record(
    agent: str, replaced: Sequence[Replaced], differences: dict[int, float], *, by_noop: bool
) -> dict[str, Any]:
    """Return the record of the replaced turns and their cost: turns and tokens of all agents after the forks."""
    played = [(each, played) for each in replaced for played in each.continuations]
    new = [turn for each, played in played for turn in played.trajectory.turns[each.turn + by_noop :]]
    return {
        "differences": {str(own): difference for own, difference in differences.items()},  # by own turn
        "episodes": len(played),
        "errors": sum(played.of(agent).is_error for _, played in played),
        "turns": len(new),
        "tokens": sum(len(turn.action_ids) for turn in new),
    }
