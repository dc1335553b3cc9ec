"""The errored trajectories that stand for an episode whose worker was lost."""

from __future__ import annotations

from dataclasses import replace

from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.rollouts.episode.boundary import outcome_info
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.single import EpisodeSpec
from agentgym_rft.rollouts.episode.team import TEAM
from agentgym_rft.rollouts.seats import Agents, with_players


def lost_episode(
    spec: EpisodeSpec, start: Fork | None, num_begun: int, reason: str, agents: Agents = ()
) -> EpisodeRecord:
    """A record with an errored trajectory without turns, of type `WorkerLost`, and one for each agent.

    `num_begun`: how often it was tried.
    """
    message = f"The process that played it was lost, {num_begun} times. The last time: {reason}"
    error = {"type": "WorkerLost", "message": message[:500], "turn": 0}
    trajectory = Trajectory(
        task_id=spec.task_id,
        group_id=spec.group_id,
        episode_id=spec.episode_id,
        turns=(),
        stop_reason=StopReason.ENV_ERROR,
        parent_id=None if start is None else start.parent.trajectory.episode_id,
        fork_turn=None if start is None else start.turn,
        info=outcome_info({}, "", spec.max_steps, spec.seed % 2**31) | {"error": error},
    )
    reset_seed = spec.seed % 2**31 if start is None else start.parent.reset_seed
    if not agents:
        return EpisodeRecord(trajectory, (), spec.seed, reset_seed)
    parts = []
    for seat in with_players(agents, spec.players):
        info = {"role": seat.role, "player": seat.player, "is_trained": seat.is_trained}
        parts.append(replace(trajectory, agent_id=seat.agent, info={**trajectory.info, **info}))
    return EpisodeRecord(replace(trajectory, agent_id=TEAM), (), spec.seed, reset_seed, parts=tuple(parts))
