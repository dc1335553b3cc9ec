"""Groups of several agents as groups of one: what is compared with what, and what is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from agentgym_rft.core import Group, Trajectory

Baseline = Literal["seat", "role", "team"]

_KEYS: Mapping[Baseline, Callable[[Trajectory], str]] = {
    "seat": lambda trajectory: trajectory.agent_id,
    "role": lambda trajectory: str(trajectory.info.get("role", "")),
    "team": lambda trajectory: "",
}


def by_seat(groups: Sequence[Group], baseline: Baseline = "seat") -> list[Group]:
    """Groups whose trajectories are compared with each other; those of one agent stay as they are.

    `seat`: each agent's own trajectories from the same start; `role`: those of all agents of a role; `team`: of all.
    What is not trained (frozen and scripted players, opponents of a pool) is left out.
    """
    return [part for group in groups for part in _parts(group, baseline)]


def _parts(group: Group, baseline: Baseline) -> list[Group]:
    if not any("role" in trajectory.info for trajectory in (*group.trajectories, *group.auxiliary)):
        return [group]
    key = _KEYS[baseline]
    trained = [t for t in group.trajectories if t.info.get("is_trained", True)]  # what was lost whole has no seat
    extra = [t for t in group.auxiliary if t.info.get("is_trained", True)]
    return [
        replace(
            group,
            group_id=f"{group.group_id}#{name}" if name else group.group_id,
            trajectories=tuple(t for t in trained if key(t) == name),
            auxiliary=tuple(t for t in extra if key(t) == name),
        )
        for name in dict.fromkeys(map(key, (*trained, *extra)))
    ]


def seat_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What became of each agent, `seat/AGENT/...`: means over its trajectories without an error. None for one agent."""
    valid = [t for group in groups for t in group.valid if "role" in t.info and t.parent_id is None]
    metrics: dict[str, float] = {}
    for agent in sorted({t.agent_id for t in valid}):
        own = [t for t in valid if t.agent_id == agent]
        metrics |= {
            f"seat/{agent}/success": fmean(t.won for t in own),
            f"seat/{agent}/score": fmean(float(t.info["score"]) for t in own),
            f"seat/{agent}/return": fmean(t.episode_return for t in own),
            f"seat/{agent}/turns": fmean(len(t.turns) for t in own),
        }
    return metrics
