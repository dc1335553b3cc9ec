"""Compiles a game for the own engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from agentgym_rft.envs.alfworld.compiled import (
    CLEAN,
    COOL,
    HOT,
    SLICED,
    TOGGLED,
    CompiledGame,
    Start,
    Win,
    listing,
    with_article,
)
from agentgym_rft.envs.alfworld.game import Game, TaskType
from agentgym_rft.errors import UnsupportedGameError

_FLAG_FACTS = {"isClean": CLEAN, "isHot": HOT, "isCool": COOL, "isSliced": SLICED, "isToggled": TOGGLED}
_NEEDED = {TaskType.CLEAN: ("cleanable", CLEAN), TaskType.HEAT: ("heatable", HOT), TaskType.COOL: ("coolable", COOL)}
_OF_TYPES = ("canContain", "receptacleType", "objectType")  # their type arguments are no instances


class _Facts:
    """The facts of a game with lower-case ids, and the numbers of its instances."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._rows = {
            name: [tuple(argument.lower() for argument in row) for row in rows]
            for name, rows in game.facts.items()
            if name not in _OF_TYPES
        }
        for name in ("receptacleType", "objectType"):
            self._rows[name] = [(row[0].lower(), row[1]) for row in game.facts.get(name, ())]
        used = {argument for rows in self._rows.values() for row in rows for argument in row}
        # The real engine does not know an instance that no fact mentions.
        self.objects = sorted(used.intersection(map(str.lower, game.objects)))
        self.receptacles = sorted(used.intersection(map(str.lower, game.receptacles)))
        self.locations = sorted(used.intersection(map(str.lower, game.locations)))
        self.names = _names(self.objects + self.receptacles)
        self.object_number = {name: i for i, name in enumerate(self.objects)}
        self.receptacle_number = {name: i for i, name in enumerate(self.receptacles)}
        self.location_number = {name: i for i, name in enumerate(self.locations)}

    def rows(self, predicate: str) -> list[tuple[str, ...]]:
        return self._rows.get(predicate, [])

    def objects_with(self, predicate: str) -> frozenset[int]:
        return frozenset(self.object_number[row[0]] for row in self.rows(predicate))

    def receptacles_with(self, predicate: str) -> int:
        return _mask(self.receptacle_number[row[0]] for row in self.rows(predicate))

    def types(self, predicate: str, number: Mapping[str, int]) -> tuple[frozenset[str], ...]:
        found: list[list[str]] = [[] for _ in number]
        for name, type_name in self.rows(predicate):
            found[number[name]].append(type_name)
        return tuple(frozenset(types) for types in found)


def compile_game(game: Game) -> CompiledGame:
    """Return the compiled game.
    Raises `UnsupportedGameError` for a starting state that the own engine cannot represent.
    """
    facts = _Facts(game)
    objects = tuple(facts.names[name] for name in facts.objects)
    receptacles = tuple(facts.names[name] for name in facts.receptacles)
    object_types = facts.types("objectType", facts.object_number)
    receptacle_types = facts.types("receptacleType", facts.receptacle_number)
    location_of = _receptacle_locations(facts)
    here = _grouped(location_of, len(facts.locations))
    start = _start(facts, objects)
    facing = tuple(f"You are facing the {listing([receptacles[r] for r in group])}." if group else "" for group in here)
    return CompiledGame(
        digest=game.content_hash(),
        task=game.task,
        intro=_intro(
            game.task, facing[start.location], [receptacles[r] for r, at in enumerate(location_of) if at >= 0]
        ),
        objects=objects,
        receptacles=receptacles,
        object_types=object_types,
        receptacle_types=receptacle_types,
        object_index={name: i for i, name in enumerate(objects)},
        receptacle_index={name: i for i, name in enumerate(receptacles)},
        location_of=location_of,
        here=here,
        here_mask=tuple(map(_mask, here)),
        crowded=_mask(r for group in here if len(group) > 1 for r in group),
        openable=facts.receptacles_with("openable"),
        accepts=_accepts(game, receptacle_types, object_types),
        pickupable=facts.objects_with("pickupable"),
        toggleable=facts.objects_with("toggleable"),
        sliceable=facts.objects_with("sliceable"),
        knives=_of_type(object_types, "KnifeType", "ButterKnifeType"),
        can={verb: facts.objects_with(f"{verb}able") for verb in ("clean", "heat", "cool")},
        appliances={
            "clean": _mask(_of_type(receptacle_types, *game.clean_with)),
            "heat": _mask(_of_type(receptacle_types, "MicrowaveType")),
            "cool": _mask(_of_type(receptacle_types, "FridgeType")),
        },
        inner=_inner_texts(facts, objects),
        facing=facing,
        go_commands=_go_commands(receptacles, location_of, len(here)),
        examine_commands=tuple(tuple(sorted(f"examine {receptacles[r]}" for r in group)) for group in here),
        start=start,
        win=_win(game, facts, object_types, receptacle_types),
        commands={},
    )


def _names(ids: Sequence[str]) -> dict[str, str]:
    """Names by id: the part before `_bar_` and a number, given in descending order of the sorted ids."""
    kinds = {}
    for name in sorted(ids):
        kind, bar, _ = name.partition("_bar_")
        if bar:
            kinds[name] = f"{kind}basin" if "basin" in name else kind
    left = Counter(kinds.values())
    names = {name: f"{name} " for name in ids}
    for name, kind in kinds.items():
        names[name] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _mask(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _masks(pairs: Iterable[tuple[int, int]], length: int) -> tuple[int, ...]:
    masks = [0] * length
    for first, second in pairs:
        masks[first] |= 1 << second
    return tuple(masks)


def _of_type(types: Sequence[frozenset[str]], *wanted: str) -> frozenset[int]:
    return frozenset(i for i, own in enumerate(types) if not own.isdisjoint(wanted))


def _grouped(location_of: Sequence[int], num_locations: int) -> tuple[tuple[int, ...], ...]:
    groups: list[list[int]] = [[] for _ in range(num_locations)]
    for receptacle, location in enumerate(location_of):
        if location >= 0:
            groups[location].append(receptacle)
    return tuple(map(tuple, groups))


def _unsupported(what: str) -> UnsupportedGameError:
    return UnsupportedGameError(f'The own engine cannot start a game with {what}; play it with backend="textworld".')


def _receptacle_locations(facts: _Facts) -> tuple[int, ...]:
    locations = [-1] * len(facts.receptacles)
    for receptacle, location in facts.rows("receptacleAtLocation"):
        number = facts.receptacle_number[receptacle]
        if locations[number] not in (-1, facts.location_number[location]):
            raise _unsupported(f"a receptacle at two locations ({receptacle})")
        locations[number] = facts.location_number[location]
    return tuple(locations)


def _accepts(
    game: Game, receptacle_types: Sequence[frozenset[str]], object_types: Sequence[frozenset[str]]
) -> tuple[frozenset[int], ...]:
    allowed: dict[str, set[str]] = {}
    for rtype, otype in game.facts.get("canContain", ()):
        allowed.setdefault(rtype, set()).add(otype)
    by_types: dict[frozenset[str], frozenset[int]] = {}
    for types in set(receptacle_types):
        otypes = set().union(*(allowed.get(rtype, ()) for rtype in types))
        by_types[types] = _of_type(object_types, *otypes)
    return tuple(by_types[types] for types in receptacle_types)


def _start(facts: _Facts, objects: Sequence[str]) -> Start:
    places = facts.rows("atLocation")
    held = {facts.object_number[row[1]] for row in facts.rows("holds")}
    if len(set(places)) != 1:
        raise _unsupported(f"{len(set(places))} agents or places of the agent")
    if len(held) > 1 or bool(held) != bool(facts.rows("holdsAny")):
        raise _unsupported("hands that hold several things, or do not agree on what they hold")
    pairs = {(facts.object_number[o], facts.receptacle_number[r]) for o, r in facts.rows("inReceptacle")}
    contents: list[list[int]] = [[] for _ in facts.receptacles]
    for item, receptacle in sorted(pairs):
        contents[receptacle].append(item)
    flags = [0] * len(objects)
    for predicate, flag in _FLAG_FACTS.items():
        for number in facts.objects_with(predicate):
            flags[number] |= flag
    at = {(facts.object_number[o], facts.location_number[place]) for o, place in facts.rows("objectAtLocation")}
    return Start(
        location=facts.location_number[places[0][1]],
        held=held.pop() if held else -1,
        opened=facts.receptacles_with("opened"),
        flags=tuple(flags),
        inside=_masks(pairs, len(objects)),
        at=_masks(at, len(objects)),
        contents=tuple(map(tuple, contents)),
        listings=tuple(with_article(objects[o] for o in inside) for inside in contents),
    )


def _intro(task: str, facing: str, receptacles: Sequence[str]) -> str:
    look = f"You are in the middle of a room. Looking quickly around you, you see {with_article(receptacles)}."
    # A game that starts in front of a receptacle begins like `look` there; nothing has been taken yet.
    return (
        f"-= Welcome to TextWorld, ALFRED! =-\n\n{f'{facing} Next to it, you see nothing.' if facing else look}\n\n"
        f"Your task is to: {task}"
    )


def _inner_texts(facts: _Facts, objects: Sequence[str]) -> dict[int, str]:
    inner: dict[int, set[int]] = {number: set() for number in facts.objects_with("isReceptacleObject")}
    for item, outer in facts.rows("inReceptacleObject"):
        number = facts.object_number[outer]
        # ALFWorld's queries bind different variables to different things: nothing is listed inside itself.
        if item != outer and number in inner:
            inner[number].add(facts.object_number[item])
    return {
        number: f"This is a normal {objects[number]}. In it, you see {with_article(objects[o] for o in sorted(items))}."
        for number, items in inner.items()
    }


def _go_commands(
    receptacles: Sequence[str], location_of: Sequence[int], num_locations: int
) -> tuple[tuple[str, ...], ...]:
    commands = sorted((f"go to {receptacles[r]}", place) for r, place in enumerate(location_of) if place >= 0)
    return tuple(tuple(text for text, place in commands if place != here) for here in range(num_locations))


def _win(
    game: Game, facts: _Facts, object_types: Sequence[frozenset[str]], receptacle_types: Sequence[frozenset[str]]
) -> Win:
    goal = game.goal
    candidates = _of_type(object_types, f"{goal.object_type}Type")
    flags = 0
    if goal.task_type in _NEEDED:
        predicate, flags = _NEEDED[goal.task_type]
        candidates &= facts.objects_with(predicate)
    if goal.sliced:
        flags |= SLICED
        candidates &= facts.objects_with("sliceable")
    light = goal.task_type is TaskType.LIGHT
    targets = frozenset() if light else _of_type(receptacle_types, f"{goal.target_type}Type")
    lamps = (
        _of_type(object_types, f"{goal.target_type}Type") & facts.objects_with("toggleable") if light else frozenset()
    )
    return Win(
        goal.task_type, tuple(sorted(candidates)), tuple(sorted(targets)), _mask(targets), flags, tuple(sorted(lamps))
    )
