"""Finds out why not one episode could be played: a run that only fails must say so instead of reporting no success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.errors import AgentGymError, ConfigError, PolicyError


@dataclass(frozen=True, slots=True)
class Unplayed:
    """Why no episode could be played, as the end of a sentence.

    `is_refused` if nothing failed, but the settings leave no episode room for an action.
    """

    reason: str
    is_refused: bool = False

    def error(self, episodes: str) -> AgentGymError:
        """Return what to raise; `episodes` are those of which not one was played."""
        return (ConfigError if self.is_refused else PolicyError)(f"{episodes} {self.reason}")


def why_unplayed(trajectories: Sequence[Trajectory], max_context: int) -> Unplayed | None:
    """Return why no episode could be played; None if at least one could."""
    if not trajectories or not all(t.is_error or _had_no_room(t) for t in trajectories):
        return None
    failed = next((t for t in trajectories if t.is_error), None)
    if failed is None:
        prompt, action = min((t.info["needed_tokens"] for t in trajectories), key=sum)
        return Unplayed(
            f"ended before its first action: the shortest prompt has {prompt} tokens and an action up to {action}, but "
            f"max_context is {max_context}. Set policy.max_context (agentgym eval: --max-context) to at least "
            f"{prompt + action}, or choose a shorter agent card.",
            is_refused=True,
        )
    error = failed.info["error"]
    return Unplayed(f"ended with an error: {error['type']} at turn {error['turn']}: {error['message']}")


def _had_no_room(trajectory: Trajectory) -> bool:
    return trajectory.stop_reason is StopReason.TOKEN_LIMIT and not trajectory.turns
