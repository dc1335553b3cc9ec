"""Shortest plans for the six goals, over a small view of the game state.

Walking to any receptacle costs one command, so a shortest plan is one of few shapes: (put down what is in the way,)
take the object, treat it, bring it to the target; for two objects, the bringing twice. `shortest` tries every object,
appliance and target that can make a difference and keeps the cheapest; ties go to the first in listing order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from agentgym_rft.envs.alfworld.game import TaskType

VERBS = {TaskType.CLEAN: "clean", TaskType.HEAT: "heat", TaskType.COOL: "cool"}
APPLIANCES = {TaskType.CLEAN: "SinkBasin", TaskType.HEAT: "Microwave", TaskType.COOL: "Fridge"}


@dataclass(frozen=True, slots=True)
class Place:
    """A receptacle; `index` is its position in listing order."""

    index: int
    name: str
    location: int
    is_closed: bool  # now; an open door and no door are the same


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that matters for the goal.

    Some real games put an object into several receptacles, and taking it from one leaves it in the others; there is one
    `Thing` then for each place that it can be taken from.
    """

    name: str
    place: Place | None  # None: in the hand
    is_ready: bool  # treated as asked
    stays_in: tuple[int, ...] = ()  # places that it is also in, however one handles it


@dataclass(frozen=True, slots=True)
class Lamp:
    name: str
    place: Place
    is_on: bool  # has been turned on at least once: what the goal asks


@dataclass(frozen=True, slots=True)
class View:
    """The part of the state that a plan depends on.

    `things` are the objects of the goal's type that may count, the held one included; `held` names what is in the hand,
    of any type; `spots` are the places that accept it, empty when nothing is held.
    """

    task_type: TaskType
    here: int
    things: tuple[Thing, ...]
    held: str | None
    spots: tuple[Place, ...]
    targets: tuple[Place, ...]
    appliances: tuple[Place, ...]
    lamps: tuple[Lamp, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """One stay: walk to the place, open it if its inside is needed, then do `command` ("" for just being there)."""

    place: Place
    needs_inside: bool
    command: str


Plan = tuple[Stop, ...]


def commands(plan: Plan, here: int) -> list[str]:
    """Return the plan as commands of the engine."""
    lines: list[str] = []
    opened: set[int] = set()
    for stop in plan:
        place = stop.place
        if place.location != here:
            lines.append(f"go to {place.name}")
            here = place.location
        if stop.needs_inside and place.is_closed and place.index not in opened:
            lines.append(f"open {place.name}")
            opened.add(place.index)
        if stop.command:
            lines.append(stop.command)
    return lines


def cost(plan: Plan, here: int) -> int:
    """Return `len(commands(plan, here))`, without building them."""
    total = 0
    opened: tuple[int, ...] = ()
    for stop in plan:
        place = stop.place
        if place.location != here:
            total += 1
            here = place.location
        if stop.needs_inside and place.is_closed and place.index not in opened:
            total += 1
            opened = (*opened, place.index)
        if stop.command:
            total += 1
    return total


def _take(thing: Thing, place: Place) -> Stop:
    return Stop(place, True, f"take {thing.name} from {place.name}")


def _put(name: str, place: Place) -> Stop:
    return Stop(place, True, f"move {name} to {place.name}")


def _distinct(places: Iterable[Place], known: Iterable[Place], here: int, group: Callable[[Place], int]) -> list[Place]:
    """Return the first of every set of places that no plan can tell apart.

    Two places differ if one stands where the agent is or where a known place stands, if one is itself known (it is
    opened only once), if one is closed, or if `group` differs.
    """
    known = tuple(known)
    locations = {here, *(place.location for place in known)}
    indices = {place.index for place in known}
    first: dict[tuple[int, int, bool, int], Place] = {}
    for place in places:
        key = (
            place.location if place.location in locations else -1,
            place.index if place.index in indices else -1,
            place.is_closed,
            group(place),
        )
        first.setdefault(key, place)
    return list(first.values())


def _sources(view: View) -> list[Place]:
    return [thing.place for thing in view.things if thing.place is not None]


def _fetch(view: View, thing: Thing, targets: Iterable[Place]) -> Iterator[Plan]:
    """Yield ways to get the thing into the hand; the hand may have to be emptied first."""
    if thing.place is None:
        yield ()
        return
    take = _take(thing, thing.place)
    if view.held is None:
        yield (take,)
        return
    for spot in _distinct(view.spots, (*_sources(view), *targets), view.here, lambda _: 0):
        yield (_put(view.held, spot), take)


def _treat(view: View, thing: Thing) -> Iterator[Plan]:
    """Yield ways to treat the held thing as asked."""
    if thing.is_ready:
        yield ()
        return
    verb = VERBS[view.task_type]
    for place in view.appliances:
        yield (Stop(place, False, f"{verb} {thing.name} with {place.name}"),)


def _place_one(view: View) -> Iterator[Plan]:
    targets = _distinct(view.targets, (*_sources(view), *view.appliances), view.here, lambda _: 0)
    for thing in view.things:
        for fetch in _fetch(view, thing, targets):
            for treat in _treat(view, thing):
                if treat and any(target.index in thing.stays_in for target in view.targets):
                    yield (*fetch, *treat)
                for target in targets:
                    yield (*fetch, *treat, _put(thing.name, target))


def _is_in(thing: Thing, place: Place) -> bool:
    return place.index in thing.stays_in or (thing.place is not None and thing.place.index == place.index)


def _place_two(view: View) -> Iterator[Plan]:
    inside = {place.index: {t.name for t in view.things if _is_in(t, place)} for place in view.targets}
    targets = _distinct(view.targets, _sources(view), view.here, lambda place: len(inside[place.index]))
    for target in targets:
        missing = 2 - len(inside[target.index])
        outside = [thing for thing in view.things if thing.name not in inside[target.index]]
        for chosen in permutations(outside, missing):
            if any(thing.place is None or thing.name == chosen[0].name for thing in chosen[1:]):
                continue  # what is in the hand is brought first, and two are two
            for fetch in _fetch(view, chosen[0], targets):
                plan = (*fetch, _put(chosen[0].name, target))
                for thing in chosen[1:]:
                    if thing.place is not None:
                        plan = (*plan, _take(thing, thing.place), _put(thing.name, target))
                yield plan


def _hold_in_light(view: View) -> Iterator[Plan]:
    for lamp in view.lamps:
        switch = Stop(lamp.place, False, "" if lamp.is_on else f"use {lamp.name}")
        for thing in view.things:
            for fetch in _fetch(view, thing, (lamp.place,)):
                yield (*fetch, switch)


def shortest(view: View) -> Plan | None:
    """Return a plan with the fewest commands from a state that is not won, or None if there is none."""
    if view.task_type is TaskType.LIGHT:
        plans = _hold_in_light(view)
    elif view.task_type is TaskType.TWO:
        plans = _place_two(view)
    else:
        plans = _place_one(view)
    return min(plans, key=lambda plan: cost(plan, view.here), default=None)
