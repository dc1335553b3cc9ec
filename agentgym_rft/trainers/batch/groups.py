"""Groups of a batch: valid trajectories, those that are compared with each other, and those that are only imitated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Literal

from agentgym_rft.core import Group, Trajectory, difference


def imitated(groups: Sequence[Group], mean_returns: Sequence[float]) -> list[Group]:
    """Return the trajectories that are better than their group's mean and than the median of all means, to be imitated.

    `info["imitation"]` is the recalibrated advantage R - median. Source: SPEAR, arXiv 2509.22601.
    """
    baseline = median(mean_returns) if mean_returns else 0.0
    found = []
    for group in groups:
        mean = fmean(trajectory.episode_return for trajectory in group.valid)
        for trajectory in group.valid:
            advantage = difference(trajectory.episode_return, baseline)
            if difference(trajectory.episode_return, mean) > 0 and advantage > 0:
                found.append(to_imitate(replace(trajectory, info={**trajectory.info, "imitation": advantage})))
    return found


def to_imitate(trajectory: Trajectory) -> Group:
    """Return a group without trajectories for a baseline: all are auxiliary and only imitated, see `shared_out`."""
    return Group(f"imitated/{trajectory.group_id}", trajectory.task_id, (), (trajectory,))


def shared_out(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with trajectories, and deal out among them the auxiliary ones of all other groups.

    So every minibatch has some trajectories to imitate, and others for its baselines. Without a group that has
    trajectories there is nothing to train.
    """
    main = [group for group in groups if group.trajectories]
    extra = [trajectory for group in groups if not group.trajectories for trajectory in group.auxiliary]
    return [
        replace(group, auxiliary=(*group.auxiliary, *extra[number :: len(main)])) for number, group in enumerate(main)
    ]


def split_errors(groups: Sequence[Group]) -> tuple[list[Group], dict[str, int]]:
    """Return the groups with only their valid trajectories, and the number of errored ones by stop reason.

    A group without a valid trajectory is left out.
    """
    errors = Counter(t.stop_reason.value for group in groups for t in group.trajectories if t.is_error)
    kept = [replace(group, trajectories=group.valid) for group in groups if group.valid]
    return kept, dict(errors)


def has_signal(group: Group) -> bool:
    """Return whether the valid trajectories of a group differ in return; if not, a group-relative advantage is zero."""
    returns = [trajectory.episode_return for trajectory in group.valid]
    return len(returns) > 1 and max(returns) > min(returns)


Baseline = Literal["seat", "role", "team"]


_KEYS: Mapping[Baseline, Callable[[Trajectory], str]] = {
    "seat": lambda trajectory: trajectory.agent_id,
    "role": lambda trajectory: str(trajectory.info.get("role", "")),
    "team": lambda trajectory: "",
}


def by_seat(groups: Sequence[Group], baseline: Baseline = "seat") -> list[Group]:
    """Return groups whose trajectories are compared with each other; those of one agent stay as they are.

    `seat`: each agent's own trajectories from the same start; `role`: those of all agents of a role; `team`: of all.
    Agents that are not trained (frozen and scripted ones, opponents of a pool) are left out.
    """
    return [part for group in groups for part in _parts(group, baseline)]


def _parts(group: Group, baseline: Baseline) -> list[Group]:
    if not any("role" in trajectory.info for trajectory in (*group.trajectories, *group.auxiliary)):
        return [group]
    key = _KEYS[baseline]
    trained = [t for t in group.trajectories if t.info.get("is_trained", True)]  # lost episodes have no agent
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
