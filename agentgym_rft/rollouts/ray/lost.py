"""What stands for an episode of which nothing came back."""

from __future__ import annotations

from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.core import StopReason
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.run import Episode
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seats import Agents


def lost_episode(spec: EpisodeSpec, start: Fork | None, num_begun: int, reason: str, agents: Agents) -> EpisodeRecord:
    """Return an episode without turns that is everybody's error, of type `WorkerLost`.

    `num_begun`: how often it was tried.
    """
    message = f"The process that played it was lost, {num_begun} times. The last time: {reason}"
    error = {"type": "WorkerLost", "message": message[:500], "turn": 0}
    return Episode(TextEnv(), agents, RoutedPolicy({}, ()), spec, start).record(StopReason.ENV_ERROR, error)
