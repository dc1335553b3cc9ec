"""The lesson of an episode, in words that its player has read: goal, places, objects and commands.

The phrases are short and regular, so that a small model can learn to write and to follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from agentgym_rft.envs.alfworld.expert import SearchExpert, kind_of
from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.planning import APPLIANCES, VERBS
from agentgym_rft.envs.alfworld.scenes import tables
from agentgym_rft.envs.base import Lesson

MAX_PLACES = 3  # named where something is still to be found
QUIZ_SHARES = (0.65, 0.1, 0.25)  # of questions about what was seen, about what was not, about turns
Thing = tuple[str, str]  # an object and the receptacle that it is in, "" for the hand
Sightings = dict[str, tuple[int, str]]  # object -> turn whose observation showed it first, and where


def lesson(first_observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
    """Return the lesson about turn `pivot`; None: no single turn was wrong, and the lesson is about the start.

    Args:
        first_observation: the text of the reset.
        steps: (command, what it led to) of all turns; an empty command is a reply that held none.

    Example: "Goal: put a mug in desk. Seen: mug 1 on shelf 2 [5].", "[5] go to bed 1 was wrong.",
    "take mug 1 from shelf 2, move mug 1 to desk 1."
    """
    then = SearchExpert(first_observation)
    then.resume(steps[: pivot or 0])
    later = SearchExpert(first_observation)
    sightings = _sightings(later, steps)
    things, is_complete = _things(then, sightings)
    lamp = _lamp(then, sightings) if then.task_type is TaskType.LIGHT else None
    goal = " ".join(first_observation.rpartition("Your task is to: ")[2].split())
    cited = [name for name, _ in things if name in sightings] + ([lamp[0]] if lamp else [])
    seen = [_cite(name, *sightings[name], len(steps)) for name in cited]
    if not is_complete:
        seen.append(f"no {'other ' if things else ''}{then.object_kind}")
    cause = "Nothing led to the goal." if pivot is None else f"[{pivot}] {steps[pivot][0]} was wrong."
    suggestion = ", ".join(_commands(then, later, things, lamp, is_complete))
    return Lesson(f"Goal: {goal} Seen: {', '.join(seen)}.", cause, f"{suggestion}.")


def quiz(
    first_observation: str, steps: Sequence[tuple[str, str]], rng: np.random.Generator, number: int
) -> list[tuple[str, str]]:
    """Return random questions about an episode with their answers, in the words of lessons: where things are, what
    turns did.

    Example: ("Find mug.", "Seen: mug 2 on shelf 1 [5]."), ("Find egg.", "Seen: no egg."), ("[3]", "[3] go to bed 1.")
    """
    player = SearchExpert(first_observation)
    first: dict[str, str] = {}
    for turn, step in enumerate(steps[:-1]):  # what the last action showed belongs to no turn
        player.resume([step])
        for place, names in player.memory.seen.items():
            for name in names:
                first.setdefault(kind_of(name), _cite(name, turn + 1, place, len(steps)))
    seen = [(f"Find {kind}.", f"Seen: {answer}.") for kind, answer in first.items()]
    unseen = [(f"Find {kind}.", f"Seen: no {kind}.") for kind in _object_kinds() if kind not in first]
    turns = [(f"[{turn}]", f"[{turn}] {command}.") for turn, (command, _) in enumerate(steps) if command]
    sorts = [sort for sort in (seen, unseen, turns) if sort]
    weights = np.array([share for share, sort in zip(QUIZ_SHARES, (seen, unseen, turns), strict=True) if sort])
    chosen = rng.choice(len(sorts), number, p=weights / weights.sum())
    return [sorts[i][int(rng.integers(len(sorts[i])))] for i in chosen]


@cache
def _object_kinds() -> tuple[str, ...]:
    """Return object types of the generated games, as the texts name them."""
    return tuple(sorted({kind.lower() for room in tables().rooms.values() for kind in room.objects}))


def _cite(name: str, turn: int, place: str, num_turns: int) -> str:
    """Return where an object was seen. The last observation belongs to no turn and cannot be cited."""
    return f"{name} on {place}" + (f" [{turn}]" if turn < num_turns else "")


def _sightings(player: SearchExpert, steps: Sequence[tuple[str, str]]) -> Sightings:
    """Return where the goal's objects and lamps were first seen. The player reads the episode meanwhile."""
    kinds = {player.object_kind, player.target_kind}
    found: Sightings = {}
    for turn, step in enumerate(steps):
        player.resume([step])
        for place, names in player.memory.seen.items():
            for name in names:
                if kind_of(name) in kinds:
                    found.setdefault(name, (turn + 1, place))
    return found


def _things(then: SearchExpert, sightings: Sightings) -> tuple[list[Thing], bool]:
    """Return the goal's objects still to be brought, in the order in which the player would, and whether they are
    enough.
    """
    memory, kind, is_two = then.memory, then.object_kind, then.task_type is TaskType.TWO
    done = memory.first(then.target_kind) if is_two else ""
    known: dict[str, str] = {memory.held: ""} if kind_of(memory.held) == kind else {}
    for place, names in memory.seen.items():
        known.update({name: place for name in names if kind_of(name) == kind})
    for name, (_, place) in sightings.items():
        if kind_of(name) == kind:
            known.setdefault(name, place)
    there = sum(place == done for place in known.values()) if is_two else 0
    number = max((2 if is_two else 1) - there, 1)
    things = [(name, place) for name, place in known.items() if not place or place != done][:number]
    return things, len(things) == number


def _lamp(then: SearchExpert, sightings: Sightings) -> Thing | None:
    seen = [(name, place) for name, (_, place) in sightings.items() if kind_of(name) == then.target_kind]
    return seen[0] if seen else None


def _commands(
    then: SearchExpert, later: SearchExpert, things: Sequence[Thing], lamp: Thing | None, is_complete: bool
) -> list[str]:
    """Return the commands that count, without the ways between; where something is missing, where to look for it."""
    memory = then.memory
    commands: list[str] = []
    if memory.held and kind_of(memory.held) != then.object_kind:
        commands.append(f"move {memory.held} to {memory.came_from or memory.here}")
    for name, place in things:
        commands += [f"take {name} from {place}"] if place else []
        verb = VERBS.get(then.task_type, "")
        if verb and name not in memory.treated:
            commands.append(f"{verb} {name} with {memory.first(APPLIANCES[then.task_type].lower())}")
        if then.task_type is not TaskType.LIGHT:
            commands.append(f"move {name} to {memory.first(then.target_kind)}")
    is_light = then.task_type is TaskType.LIGHT
    if is_light and lamp is not None:
        commands += [f"go to {lamp[1]}", f"use {lamp[0]}"]
    if not is_complete or (is_light and lamp is None):
        places = [place for place in then.search_order if place not in later.memory.seen] or then.search_order
        commands.append(f"look in {', '.join(places[:MAX_PLACES])}")
    return commands
