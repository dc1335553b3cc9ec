"""Trajectories that are imitated beside a batch: which are, and how they are shared out among its groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median

from agentgym_rft.core import Group, Trajectory


def imitated(groups: Sequence[Group], mean_returns: Sequence[float]) -> list[Group]:
    """The trajectories that are better than their group's mean and than the median of all means, to be imitated.

    `info["imitation"]` is the recalibrated advantage R - median. Source: SPEAR, arXiv 2509.22601.
    """
    baseline = median(mean_returns) if mean_returns else 0.0
    found = []
    for group in groups:
        mean = fmean(trajectory.episode_return for trajectory in group.valid)
        for trajectory in group.valid:
            advantage = trajectory.episode_return - baseline
            if trajectory.episode_return > mean and advantage > 0:
                found.append(to_imitate(replace(trajectory, info={**trajectory.info, "imitation": advantage})))
    return found


def to_imitate(trajectory: Trajectory) -> Group:
    """A group with nothing that enters a baseline, see `shared_out`."""
    return Group(f"imitated/{trajectory.group_id}", trajectory.task_id, (), (trajectory,))


def shared_out(groups: Sequence[Group]) -> list[Group]:
    """The groups with trajectories; what others bring to be imitated is shared out among them, in turn.

    So every minibatch has some, and something to set it against. Without any such group there is nothing to train.
    """
    main = [group for group in groups if group.trajectories]
    extra = [trajectory for group in groups if not group.trajectories for trajectory in group.auxiliary]
    return [
        replace(group, auxiliary=(*group.auxiliary, *extra[number :: len(main)])) for number, group in enumerate(main)
    ]
