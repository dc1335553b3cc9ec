"""Finds out why not one episode could be played: a run that only fails must say so instead of reporting no success."""

from __future__ import annotations

from collections.abc import Sequence

from agentgym_rft.core import StopReason, Trajectory


def why_unplayed(trajectories: Sequence[Trajectory], max_context: int) -> str | None:
    """Return why no episode could be played, as the end of a sentence; None if at least one could."""
    if not trajectories or not all(t.is_error or _had_no_room(t) for t in trajectories):
        return None
    failed = next((t for t in trajectories if t.is_error), None)
    if failed is None:
        return (
            f"ended before its first action: the prompt and an action need more than policy.max_context, "
            f"{max_context} tokens. Raise it, or choose a shorter agent card."
        )
    error = failed.info["error"]
    return f"ended with an error: {error['type']} at turn {error['turn']}: {error['message']}"


def _had_no_room(trajectory: Trajectory) -> bool:
    return trajectory.stop_reason is StopReason.TOKEN_LIMIT and not trajectory.turns
