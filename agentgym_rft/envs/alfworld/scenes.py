"""The rooms of generated games: tables of what a room holds, and 112 scenes drawn from them.

`data/household.json` holds counts over the 3,553 games of ALFWorld's train split, rounded: how often a room kind has a
receptacle or object type, how many of it, where it lies, which goals are asked for. Three choices are ours: kitchens
have fewer cabinets and drawers than the real ones (20-54 receptacles there), so that a search fits into 50 steps;
objects that are part of a wall or floor are left out; what can be taken can be put back, so that no state is a dead end
(real games have objects that no receptacle takes). Scene numbers follow the ranges of the real floor plans
(kitchens from 1, living rooms from 201, bedrooms from 301, bathrooms from 401), but the rooms are not those.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from agentgym_rft.envs.draws import Draws

FIRST_NUMBER: Mapping[str, int] = MappingProxyType({"kitchen": 1, "living_room": 201, "bedroom": 301, "bathroom": 401})
NUM_TRAIN_SCENES = 25  # of each kind
NUM_UNSEEN_SCENES = 3
NUM_STARTS = 8
MIN_RECEPTACLES, MAX_RECEPTACLES = 6, 39

# Chance that a receptacle stands at the location of an earlier one of the partner type, about as in real games.
_SHARES = {
    "StoveBurner": ("StoveBurner", 0.35),
    "Cabinet": ("Cabinet", 0.12),
    "Drawer": ("Drawer", 0.12),
    "Shelf": ("Shelf", 0.06),
    "Toaster": ("CounterTop", 0.25),
    "CounterTop": ("CoffeeMachine", 0.1),
}
_BASINS = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}


@dataclass(frozen=True, slots=True)
class Habit:
    """The statistics of an object type in a room kind."""

    presence: float  # chance that a game has at least one
    counts: tuple[float, ...]  # cumulative weights of having 1, 2, ... of it
    places: Mapping[str, float]  # weight by receptacle type


@dataclass(frozen=True, slots=True)
class Room:
    """A room kind: receptacle type -> (numbers, cumulative weights), object type -> habit."""

    receptacles: Mapping[str, tuple[tuple[int, ...], tuple[float, ...]]]
    objects: Mapping[str, Habit]


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything in `data/household.json`. `goals[task type][room kind]` lists (object, target, weight)."""

    rooms: Mapping[str, Room]
    goals: Mapping[str, Mapping[str, tuple[tuple[str, str, float], ...]]]
    can_contain: Mapping[str, frozenset[str]]
    properties: Mapping[str, tuple[str, ...]]  # object type -> predicates
    openable: Mapping[str, float]  # receptacle type -> chance that one of it has a door


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle of a scene; `key` is its PDDL id."""

    key: str
    kind: str
    location: str
    is_openable: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """A room: its receptacles, sorted by key, and the locations that the agent may start from."""

    number: int
    kind: str
    receptacles: tuple[Receptacle, ...]
    starts: tuple[str, ...]

    def kinds(self) -> tuple[str, ...]:
        """Return the receptacle types of the scene, each once, sorted."""
        return tuple(sorted({r.kind for r in self.receptacles}))


def _signed(number: int) -> str:
    return f"_minus_{-number}" if number < 0 else str(number)


def _coordinate(hundredths: int) -> str:
    sign = "minus" if hundredths < 0 else "plus"
    return f"_{sign}_{abs(hundredths) // 100:02d}_dot_{abs(hundredths) % 100:02d}"


_PLANE = tuple(_coordinate(n) for n in range(-300, 301))
_HEIGHT = tuple(_coordinate(n) for n in range(200))


def new_key(kind: str, draws: Draws) -> str:
    """Return a PDDL id as the official files write them: the type and three coordinates in metres."""
    x, y, z = _PLANE[draws.below(601)], _HEIGHT[draws.below(200)], _PLANE[draws.below(601)]
    return f"{kind}_bar_{x}_bar_{y}_bar_{z}"


def _room(body: Mapping[str, Any]) -> Room:
    receptacles = {
        kind: (tuple(int(n) for n in counts), tuple(accumulate(float(w) for w in counts.values())))
        for kind, counts in body["receptacles"].items()
    }
    objects = {
        kind: Habit(habit["presence"], tuple(accumulate(map(float, habit["counts"]))), habit["on"])
        for kind, habit in body["objects"].items()
    }
    return Room(receptacles, objects)


@cache
def tables() -> Tables:
    """Return the tables, read once."""
    text = resources.files("agentgym_rft.envs.alfworld").joinpath("data/household.json").read_text(encoding="utf-8")
    body = json.loads(text)
    properties: dict[str, tuple[str, ...]] = {}
    for predicate, kinds in body["properties"].items():
        for kind in kinds:
            properties[kind] = (*properties.get(kind, ()), predicate)
    return Tables(
        rooms={kind: _room(room) for kind, room in body["kinds"].items()},
        goals={
            t: {k: tuple((o, r, float(w)) for o, r, w in g) for k, g in v.items()} for t, v in body["goals"].items()
        },
        can_contain={kind: frozenset(objects) for kind, objects in body["can_contain"].items()},
        properties=properties,
        openable=body["openable"],
    )


def _new_location(taken: set[str], draws: Draws) -> str:
    while True:
        x, z = _signed(draws.below(25) - 12), _signed(draws.below(25) - 12)
        turn, tilt = draws.below(4), (30, 45, 60)[draws.below(3)]
        location = f"loc_bar_{x}_bar_{z}_bar_{turn}_bar_{tilt}"
        if location not in taken:
            taken.add(location)
            return location


def _draw_counts(kind: str, draws: Draws) -> Counter[str]:
    while True:
        counts = Counter({t: n[draws.weighted(w)] for t, (n, w) in tables().rooms[kind].receptacles.items()})
        if MIN_RECEPTACLES <= counts.total() <= MAX_RECEPTACLES:
            return +counts


def _build(number: int, kind: str, counts: Counter[str], draws: Draws) -> Scene:
    taken: set[str] = set()
    built: dict[str, Receptacle] = {}
    latest: dict[str, str] = {}
    for receptacle_kind in sorted(counts.elements()):
        partner, share = _SHARES.get(receptacle_kind, ("", 0.0))
        location = latest.get(partner) if draws.chance(share) else None
        location = location or _new_location(taken, draws)
        latest[receptacle_kind] = location
        is_openable = draws.chance(tables().openable.get(receptacle_kind, 0.0))
        key = ""
        while not key or key in built:
            key = new_key(_BASINS.get(receptacle_kind, receptacle_kind), draws)
            if receptacle_kind in _BASINS:
                key = f"{key}_bar_{receptacle_kind}"
        built[key] = Receptacle(key, receptacle_kind, location, is_openable)
    starts = tuple(_new_location(taken, draws) for _ in range(NUM_STARTS))
    return Scene(number, kind, tuple(built[key] for key in sorted(built)), starts)


def _all_scenes() -> Iterator[Scene]:
    for kind, first in FIRST_NUMBER.items():
        known: set[frozenset[tuple[str, int]]] = set()
        for number in range(first, first + NUM_TRAIN_SCENES + NUM_UNSEEN_SCENES):
            draws = Draws(f"scene/{number}")
            counts = _draw_counts(kind, draws)
            while frozenset(counts.items()) in known:  # no two scenes list the same receptacles
                counts = _draw_counts(kind, draws)
            known.add(frozenset(counts.items()))
            yield _build(number, kind, counts, draws)


@cache
def scenes() -> Mapping[int, Scene]:
    """Return all scenes by number; no two of a kind have the same receptacles."""
    return MappingProxyType({scene.number: scene for scene in _all_scenes()})


def scenes_of(split: str) -> tuple[Scene, ...]:
    """Return the scenes of a split: `train` and `valid_seen` share 100, `valid_unseen` has 12 of its own."""
    is_unseen = split == "valid_unseen"
    return tuple(
        scene
        for scene in scenes().values()
        if (scene.number - FIRST_NUMBER[scene.kind] >= NUM_TRAIN_SCENES) == is_unseen
    )
