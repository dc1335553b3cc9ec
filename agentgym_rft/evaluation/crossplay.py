"""Every ordered pair of policies on the same tasks with the same seeds, from the configuration to the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.policies.seeds import full_policy_name
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.making import seats_of
from agentgym_rft.envs.panels import Panel
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate, make_plan, open_panel
from agentgym_rft.evaluation.team import EvaluationPolicies
from agentgym_rft.report.crossplay import summarise_crossplay
from agentgym_rft.rollouts.outcome import why_unplayed
from agentgym_rft.rollouts.seats import SCRIPTS

Pair = tuple[str, str]  # names of the row's and of the column's policy


@dataclass(frozen=True, slots=True)
class Sides:
    """Which agents the policy of a row plays, and which the policy of a column."""

    row: tuple[str, ...]
    column: tuple[str, ...]

    def policy_mapping(self, row: str, column: str) -> dict[str, str]:
        """Return the policy of each agent."""
        return {**dict.fromkeys(self.row, row), **dict.fromkeys(self.column, column)}


def make_sides(roles: Mapping[str, str]) -> Sides:
    """Return the first agent, with all others of its role, against the rest; if all have one role, the first alone.

    Raises:
        ValueError: there are fewer than two agents.
    """
    if len(roles) < 2:
        raise ValueError("Cross-play needs at least two agents.")
    first = next(iter(roles))
    alike = tuple(agent for agent, role in roles.items() if role == roles[first])
    row = (first,) if len(alike) == len(roles) else alike
    return Sides(row, tuple(agent for agent in roles if agent not in row))


def run_crossplay(
    config: Config,
    named: Mapping[str, str],
    samples: int,
    keep: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Play all pairs on the configured panel and summarise them.

    Args:
        named: the policies, at least two, by the names that the summary has for them.
        samples: episodes a pair and task.
        keep: writes the summary down. It is called before anything is closed, since that may fail in any way.
    Raises:
        ConfigError, DataError, CheckpointError: what cannot work.
        PolicyError: no episode could be played.
    """
    roles = seats_of(config.env.id, config.env.options)
    if len(roles) < 2:
        raise ConfigError(f"Cross-play is for several agents, and {config.env.id} has one here: use agentgym eval.")
    names = {name: full_policy_name(policy, config.env.id) for name, policy in named.items()}
    panel = open_panel(config, set(names.values()))
    policies, sides = EvaluationPolicies(config, roles), make_sides(roles)
    try:
        start = time.perf_counter()
        games = play_pairs(policies, sides, names, make_plan(config, panel.task_ids, samples))
        if problem := why_unplayed([t for played in games.values() for t in played], config.policy.max_context):
            raise problem.error("Every episode")
        exact = _exact(policies, roles, names, config.eval.temperature)
        summary = {
            **_protocol(config, panel, names, samples),
            "wall_time_s": time.perf_counter() - start,
            **summarise_crossplay(games, sides, samples),
            "exact": exact,
        }
        if keep is not None:
            keep(summary)
        return summary
    finally:
        policies.close()


def _protocol(config: Config, panel: Panel, names: Mapping[str, str], samples: int) -> dict[str, Any]:
    """Return what was played, and how."""
    return {
        "env": config.env.id,
        "options": dict(panel.options),
        "split": panel.split,
        "panel_hash": panel.panel_hash,
        "num_tasks": len(panel),
        "samples": samples,
        "seed": config.run.seed,
        "temperature": None if set(names.values()) <= set(SCRIPTS) else config.eval.temperature,
        "max_steps": config.eval.max_steps,
        "named": dict(names),
    }


def play_pairs(
    policies: EvaluationPolicies, sides: Sides, names: Mapping[str, str], plan: EvaluationPlan
) -> dict[Pair, Sequence[Trajectory]]:
    """Return the episodes of every ordered pair of names, in the order of the plan; errors are among them.

    All pairs have the seeds of the plan, so that they differ by who plays alone.

    Args:
        names: the policy that each name means.
    """
    agents = {
        (row, column): policies.agents(sides.policy_mapping(first, second))
        for row, first in names.items()
        for column, second in names.items()
    }
    return {pair: evaluate(policies.workers(own), plan) for pair, own in agents.items()}


def _exact(
    policies: EvaluationPolicies, roles: Mapping[str, str], names: Mapping[str, str], temperature: float
) -> dict[str, Any]:
    """Return what the environment's theory says about each policy as all agents; without those it says nothing of."""
    found = {
        name: policies.exact(policies.agents(dict.fromkeys(roles, policy)), temperature)
        for name, policy in names.items()
    }
    return {name: values["exact"] for name, values in found.items() if values}
