"""Groups of made-up trajectories of several turns, for tests of credit inside a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import TokenTable, build_table


def turn(reward: float = 0.0, state: str = "", tokens: int = 1, **fields: Any) -> Turn:
    """A turn of some action tokens, each sampled with log-prob -1."""
    return Turn((1, 2), tuple(range(3, 3 + tokens)), (-1.0,) * tokens, reward=reward, state_key=state, **fields)


def trajectory(
    name: str, turns: Sequence[Turn], group: str = "g0", info: Mapping[str, Any] | None = None
) -> Trajectory:
    """A trajectory that was won if its rewards add up to more than 0."""
    total = float(sum(t.reward for t in turns))
    stop = StopReason.SUCCESS if total > 0 else StopReason.FAILURE
    return Trajectory(f"task {group}", group, name, tuple(turns), stop, rewards={"task": total}, info=info or {})


def group_of(
    *members: Sequence[Turn], group: str = "g0", infos: Sequence[Mapping[str, Any]] = (), auxiliary: Sequence[Turn] = ()
) -> Group:
    """A group with one trajectory for each list of turns, and an auxiliary one of the `auxiliary` turns."""
    trajectories = tuple(
        trajectory(f"{group}.{n}", turns, group, infos[n] if infos else None) for n, turns in enumerate(members)
    )
    more = (trajectory(f"{group}.auxiliary", auxiliary, group),) if auxiliary else ()
    return Group(group, f"task {group}", trajectories, more)


def prepared(algorithm: Algorithm, *groups: Group, **columns: Any) -> TokenTable:
    """The table of some groups as the algorithm prepares it, with further token columns."""
    table, _ = build_table(groups, 0, auxiliary=True)
    return algorithm.prepare(table.with_columns(columns), Context())


def advantages(algorithm: Algorithm, *groups: Group, **columns: Any) -> list[float]:
    """Its advantage of every token."""
    return prepared(algorithm, *groups, **columns).columns["advantage"].tolist()
