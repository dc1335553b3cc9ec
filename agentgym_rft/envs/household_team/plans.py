"""Plans of a team with full knowledge: who does what, and how many turns of all agents that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.oracle import view_of
from agentgym_rft.envs.alfworld.planning import Plan, View, commands, cost, shortest
from agentgym_rft.envs.household_team.house import House


@dataclass(frozen=True, slots=True)
class TeamPlan:
    """The commands of each agent, and the number of turns, all agents' together, until the win. The others wait."""

    turns: int
    commands: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Part:
    agent: str
    view: View
    plan: Plan
    turns: int  # until it is done, all agents' together


def team_plan(house: House, order: Sequence[str]) -> TeamPlan | None:
    """Return the cheapest plan from a state that is not won, None if there is none.

    One agent does it all, or, for two objects, two agents bring one each; the rest wait. Plans in which one agent opens
    a door for another, or hands something over, are not considered, so a team may need fewer turns. A team that follows
    the plan wins after `turns` turns or sooner.

    Args:
        order: all agents, from the one whose turn it is on; those that are not in the house only take their turns.
    """
    places = {agent: place for place, agent in enumerate(order)}
    views: dict[str, View] = {}
    found: list[tuple[_Part, ...]] = []
    for agent in (agent for agent in order if agent in house.agents):
        world = house.enter(agent)
        views[agent] = view_of(world)
        plan = () if world.won else shortest(views[agent])  # (): a turn of this agent is all that is missing
        if plan is not None:
            found.append((_part(agent, views[agent], plan, places),))
    if views and next(iter(views.values())).task_type is TaskType.TWO:
        found.extend(_shared(views, places))
    if not found:
        return None
    best = min(found, key=_turns)
    return TeamPlan(_turns(best), {part.agent: commands(part.plan, part.view.here) for part in best})


def _turns(parts: Sequence[_Part]) -> int:
    return max(part.turns for part in parts)


def _part(agent: str, view: View, plan: Plan, places: Mapping[str, int]) -> _Part:
    num_commands = max(cost(plan, view.here), 1)
    return _Part(agent, view, plan, places[agent] + (num_commands - 1) * len(places) + 1)


def _shared(views: Mapping[str, View], places: Mapping[str, int]) -> Iterator[tuple[_Part, ...]]:
    """Yield ways for two agents to bring one object each to the same target: the quickest of each pair of agents."""
    brings = {agent: _brings(agent, view, places) for agent, view in views.items()}
    for first, second in permutations(views, 2):
        pairs = [
            (left, right)
            for (target, name), left in brings[first].items()
            for (other, other_name), right in brings[second].items()
            if target == other and name != other_name
        ]
        if pairs:
            yield min(pairs, key=_turns)


def _brings(agent: str, view: View, places: Mapping[str, int]) -> dict[tuple[int, str], _Part]:
    """By target and object: how the agent brings the one to the other."""
    parts: dict[tuple[int, str], _Part] = {}
    for target in view.targets:
        for thing in view.things:
            errand = replace(view, task_type=TaskType.SIMPLE, things=(thing,), targets=(target,))
            plan = shortest(errand)
            if plan is not None:
                part = _part(agent, view, plan, places)
                key = (target.index, thing.name)
                parts[key] = min(parts.get(key, part), part, key=lambda way: way.turns)
    return parts
