"""The shortest plan of a generated game from its start, without building an engine for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache

from agentgym_rft.envs.alfworld.game import Goal, TaskType
from agentgym_rft.envs.alfworld.planning import APPLIANCES, Lamp, Place, Thing, View, commands, shortest
from agentgym_rft.envs.alfworld.scenes import scenes


@cache
def _places(number: int) -> tuple[Place, ...]:
    """Return the receptacles of a scene as the engine names them: numbers fall along the list."""
    receptacles = scenes()[number].receptacles
    left = Counter(receptacle.kind for receptacle in receptacles)
    location_numbers: dict[str, int] = {}
    places: list[Place] = []
    for index, receptacle in enumerate(receptacles):
        name = f"{receptacle.kind.lower()} {left[receptacle.kind]}"
        left[receptacle.kind] -= 1
        location = location_numbers.setdefault(receptacle.location, len(location_numbers))
        places.append(Place(index, name, location, receptacle.is_openable))
    return tuple(places)


def _named(kind: str, placed: Sequence[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Return the objects of a type as (name, key, receptacle index), in the order of `placed`."""
    rows = [(key, index) for key, object_type, index in placed if object_type == kind]
    return [(f"{kind.lower()} {len(rows) - i}", key, index) for i, (key, index) in enumerate(rows)]


def opening_plan(
    goal: Goal, scene: int, placed: Sequence[tuple[str, str, int]], cool: Collection[str]
) -> tuple[str, ...]:
    """Return commands that win, as few as possible.

    Args:
        goal: what to do.
        scene: a scene number.
        placed: objects as (key, type, receptacle index), sorted by key.
        cool: keys of the objects that are cool at the start.
    """
    places = _places(scene)
    receptacles = scenes()[scene].receptacles
    is_treated = goal.task_type in APPLIANCES
    things = tuple(
        Thing(name, places[index], not is_treated or (goal.task_type is TaskType.COOL and key in cool))
        for name, key, index in _named(goal.object_type, placed)
    )
    is_light = goal.task_type is TaskType.LIGHT
    lamps = _named(goal.target_type, placed) if is_light else []
    appliance = APPLIANCES.get(goal.task_type)
    view = View(
        task_type=goal.task_type,
        here=-1,
        things=things,
        held=None,
        spots=(),
        targets=tuple(place for place in places if receptacles[place.index].kind == goal.target_type),
        appliances=tuple(place for place in places if receptacles[place.index].kind == appliance),
        lamps=tuple(Lamp(name, places[index], False) for name, _, index in lamps),
    )
    plan = shortest(view)
    assert plan is not None, "every goal of the tables can be reached"
    return tuple(commands(plan, view.here))
