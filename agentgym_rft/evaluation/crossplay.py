"""Every ordered pair of policies on the same tasks with the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentgym_rft.core import Trajectory
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.team import EvaluationPolicies

Pair = tuple[str, str]  # names of the row's and of the column's policy


@dataclass(frozen=True, slots=True)
class Sides:
    """Which agents the policy of a row plays, and which the policy of a column."""

    row: tuple[str, ...]
    column: tuple[str, ...]

    def players(self, row: str, column: str) -> dict[str, str]:
        """The policy of each agent."""
        return {**dict.fromkeys(self.row, row), **dict.fromkeys(self.column, column)}


def make_sides(roles: Mapping[str, str]) -> Sides:
    """The first agent, with all others of its role, against the rest; if all have one role, the first alone.

    Raises:
        ValueError: there are fewer than two agents.
    """
    if len(roles) < 2:
        raise ValueError("Cross-play needs at least two agents.")
    first = next(iter(roles))
    alike = tuple(agent for agent, role in roles.items() if role == roles[first])
    row = (first,) if len(alike) == len(roles) else alike
    return Sides(row, tuple(agent for agent in roles if agent not in row))


def crossplay(
    loaded: EvaluationPolicies,
    sides: Sides,
    policies: Mapping[str, str],
    plan: EvaluationPlan,
    *,
    on_finished: Callable[[Trajectory], None] | None = None,
) -> dict[Pair, Sequence[Trajectory]]:
    """The episodes of every ordered pair of names, in the order of the plan; errors are among them.

    All pairs have the seeds of the plan, so that they differ by who plays alone.

    Args:
        policies: what each name means.
    """
    teams = {
        (row, column): loaded.agents(sides.players(first, second))
        for row, first in policies.items()
        for column, second in policies.items()
    }
    return {pair: evaluate(loaded.workers(agents), plan, on_finished=on_finished) for pair, agents in teams.items()}
