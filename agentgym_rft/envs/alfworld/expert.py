"""A player that knows only what it has read: text in, command out.

It searches the receptacles in the order in which the first observation lists them, cabinets and drawers last (most are
closed, many are empty), opens closed ones, remembers what it saw, and does with the goal's object what the task asks.
Where several would do (target, sink, object) it takes the first in listing order. Its regularity makes its games good
demonstrations for small models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.planning import APPLIANCES, VERBS
from agentgym_rft.errors import DataError

_TASKS = tuple(
    (task_type, re.compile(pattern))
    for task_type, pattern in (
        (TaskType.TWO, r"(?:put|find) two (\w+) (?:in|and put them in) (\w+)\."),
        (TaskType.CLEAN, r"put a clean (\w+) in (\w+)\."),
        (TaskType.HEAT, r"put a hot (\w+) in (\w+)\."),
        (TaskType.COOL, r"put a cool (\w+) in (\w+)\."),
        (TaskType.CLEAN, r"clean some (\w+) and put it in (\w+)\."),
        (TaskType.HEAT, r"heat some (\w+) and put it in (\w+)\."),
        (TaskType.COOL, r"cool some (\w+) and put it in (\w+)\."),
        (TaskType.LIGHT, r"look at (\w+) under the (\w+)\."),
        (TaskType.LIGHT, r"examine the (\w+) with the (\w+)\."),
        (TaskType.SIMPLE, r"put (?:a|some) (\w+) (?:in|on) (\w+)\."),
    )
)
LATE_KINDS = frozenset({"cabinet", "drawer"})
_NAME = re.compile(r"\ba (\w+ \d+)")
_CONTENTS = re.compile(r"(?:On the|The) (\w+ \d+)(?: is open\. In it)?, you see (.*)\.$")


def read_task(text: str) -> tuple[TaskType, str, str]:
    """Return task type, object name and target name in an observation that holds a task.
    Raises `DataError` without one.
    """
    sentence = text.rpartition("Your task is to: ")[2].strip()
    for task_type, pattern in _TASKS:
        match = pattern.fullmatch(sentence)
        if match:
            return task_type, match[1], match[2]
    raise DataError(f"No known task in '{text[-120:]}'. Expected a line such as 'Your task is to: put a mug in desk.'")


def kind_of(name: str) -> str:
    """Return `mug` of `mug 2`."""
    return name.partition(" ")[0]


@dataclass(slots=True)
class Memory:
    """The places and objects that were seen so far."""

    order: tuple[str, ...]  # receptacles as listed at the start
    seen: dict[str, list[str]] = field(default_factory=dict)  # contents of the receptacles looked into
    closed: set[str] = field(default_factory=set)  # receptacles known to be closed now
    beside: dict[str, set[str]] = field(default_factory=dict)  # receptacles known to share a location
    here: str = ""  # receptacle the player stands at
    held: str = ""
    came_from: str = ""  # receptacle that the held object was taken from
    treated: set[str] = field(default_factory=set)
    lit: bool = False

    def is_here(self, name: str) -> bool:
        return name == self.here or name in self.beside.get(self.here, ())

    def where(self, name: str) -> str:
        """Return the receptacle that holds the object, "" if unknown."""
        return next((place for place, names in self.seen.items() if name in names), "")

    def first(self, kind: str) -> str:
        """Return the first receptacle of a type in listing order, "" without one."""
        return next((name for name in self.order if kind_of(name) == kind), "")

    def read(self, command: str, observation: str) -> None:
        """Take in what a command led to."""
        if observation == "Nothing happens.":
            if command.startswith("go to ") and command[6:] in self.order:  # it stands where the player stands
                self._join(command[6:])
            return
        verb, _, rest = command.partition(" ")
        if verb == "go":
            self.here = rest[3:]
        elif verb == "take":
            self.held, _, self.came_from = rest.partition(" from ")
            self._drop(self.came_from, self.held)
        elif verb == "move":
            name, _, place = rest.partition(" to ")
            self.held = self.came_from = ""
            self.seen.setdefault(place, []).append(name)
        elif verb in ("clean", "heat", "cool"):
            self.treated.add(rest.partition(" with ")[0])
        elif verb == "use":
            self.lit = True
        self._read_contents(observation)

    def _join(self, place: str) -> None:
        both = self.beside.get(self.here, {self.here}) | self.beside.get(place, {place})
        for name in both:
            self.beside[name] = both
        self.here = place

    def _drop(self, place: str, name: str) -> None:
        if name in self.seen.get(place, ()):
            self.seen[place].remove(name)

    def _read_contents(self, observation: str) -> None:
        if observation.endswith(" is closed."):
            self.closed.add(observation[:-11].rpartition("The ")[2])
            return
        match = _CONTENTS.search(observation)
        if match:
            self.seen[match[1]] = _NAME.findall(match[2])
            self.closed.discard(match[1])


class SearchExpert:
    """Plays one game from its first observation on.

    Args:
        first_observation: the text of the reset: the list of receptacles and the task.
        rng: source of the random actions; needed if `noise` is above 0.
        noise: chance that an action is a random plausible one instead; the player notices and continues from there.
        late_kinds: receptacle types that are searched after all others; empty for plain listing order.
    Raises:
        DataError: the observation holds no known task.
        ValueError: noise without an rng.
    """

    def __init__(
        self,
        first_observation: str,
        rng: np.random.Generator | None = None,
        noise: float = 0.0,
        late_kinds: Collection[str] = LATE_KINDS,
    ) -> None:
        if noise > 0 and rng is None:
            raise ValueError("noise > 0 needs an rng, so that games can be repeated.")
        intro, _, _ = first_observation.partition("Your task is to: ")
        self.task_type, self.object_kind, self.target_kind = read_task(first_observation)
        self.memory = Memory(tuple(_NAME.findall(intro.rpartition("you see")[2])))
        self.search_order = sorted(self.memory.order, key=lambda name: kind_of(name) in late_kinds)
        self._rng, self._noise = rng, noise
        self._command = ""
        self._refused: set[tuple[str, str]] = set()  # (object type, receptacle type) that `move` did not take

    def act(self, observation: str) -> str:
        """Return the next command, given what the last one led to (the first observation at the first call)."""
        memory = self.memory
        if self._command:
            memory.read(self._command, observation)
            if observation == "Nothing happens." and self._command.startswith("move "):
                self._refused.add((kind_of(memory.held), kind_of(self._command.rpartition(" to ")[2])))
        if self._rng is not None and self._noise > 0 and self._rng.random() < self._noise:
            self._command = self._random_command(self._rng)
        else:
            self._command = self._next_command()
        return self._command

    def resume(self, steps: Iterable[tuple[str, str]]) -> None:
        """Take in what somebody else did: (command, what it led to); an empty command is a reply that held none.

        To be called before the first `act`, which then answers the last of these observations.
        """
        for command, observation in steps:
            if command:
                self.memory.read(command, observation.strip())

    def heed(self, suggestion: str) -> None:
        """Believe what the commands of a suggestion say about where things are, and look in its places first."""
        seen, place = self.memory.seen, ""
        first: list[str] = []
        for part in suggestion.rstrip(".").split(", "):
            verb, _, rest = part.partition(" ")
            if verb == "take":
                name, _, place = rest.partition(" from ")
                _add(seen, place, name)
            elif part.startswith("go to "):
                place = part[6:]
            elif verb == "use" and place:
                _add(seen, place, rest)
            elif part.removeprefix("look in ") in self.memory.order:
                first.append(part.removeprefix("look in "))
        self.search_order = [*first, *(name for name in self.search_order if name not in first)]

    def _next_command(self) -> str:
        memory = self.memory
        if not memory.held:
            return self._fetch()
        if kind_of(memory.held) != self.object_kind:
            return self._put_away()
        if self.task_type is TaskType.LIGHT:
            return self._to_lamp()
        verb = VERBS.get(self.task_type, "")
        if verb and memory.held not in memory.treated:
            appliance = memory.first(APPLIANCES[self.task_type].lower())
            return self._at(appliance, f"{verb} {memory.held} with {appliance}")
        target = memory.first(self.target_kind)
        return self._inside(target, f"move {memory.held} to {target}")

    def _fetch(self) -> str:
        memory = self.memory
        done = memory.first(self.target_kind) if self.task_type is TaskType.TWO else ""
        for place, names in memory.seen.items():
            if place != done:
                for name in names:
                    if kind_of(name) == self.object_kind:
                        return self._inside(place, f"take {name} from {place}")
        return self._search()

    def _to_lamp(self) -> str:
        memory = self.memory
        for place, names in memory.seen.items():
            for name in names:
                if kind_of(name) == self.target_kind:
                    return self._at(place, f"use {name}")
        return self._search()

    def _search(self) -> str:
        """Look into the first receptacle that was not looked into yet."""
        memory = self.memory
        if memory.here and memory.here not in memory.seen:
            return self._look_into(memory.here)
        place = next((name for name in self.search_order if name not in memory.seen), "")
        if not place:
            memory.seen.clear()  # nothing left: something was missed, so search again
            place = self.search_order[0]
        return self._look_into(place)

    def _look_into(self, place: str) -> str:
        if not self.memory.is_here(place):
            return f"go to {place}"
        return f"open {place}" if place in self.memory.closed else f"examine {place}"

    def _at(self, place: str, command: str) -> str:
        return command if self.memory.is_here(place) else f"go to {place}"

    def _inside(self, place: str, command: str) -> str:
        """Go to the place, open it if it is closed, then the command."""
        if self.memory.is_here(place) and (place in self.memory.closed or place not in self.memory.seen):
            return self._look_into(place)
        return self._at(place, command)

    def _put_away(self) -> str:
        """Put down what is in the way: where it came from, else in the next receptacle that takes it."""
        memory = self.memory
        kind = kind_of(memory.held)
        for place in (memory.came_from, memory.here, *memory.order):
            if place and (kind, kind_of(place)) not in self._refused:
                return self._inside(place, f"move {memory.held} to {place}")
        self._refused.clear()
        return f"go to {memory.order[0]}"

    def _random_command(self, rng: np.random.Generator) -> str:
        choices = self._plausible(rng)
        return choices[int(rng.integers(len(choices)))]

    def _plausible(self, rng: np.random.Generator) -> Sequence[str]:
        memory = self.memory
        order = memory.order
        choices = [f"go to {order[int(rng.integers(len(order)))]}", "look", "inventory"]
        here = memory.here
        if here:
            choices.append(f"examine {here}")
            if here in memory.closed:
                choices.append(f"open {here}")
            elif memory.held:
                choices.append(f"move {memory.held} to {here}")
            else:
                choices.extend(_some(memory.seen.get(here, ()), here))
        return choices


def _add(seen: dict[str, list[str]], place: str, name: str) -> None:
    if name not in seen.setdefault(place, []):
        seen[place].append(name)


def _some(names: Iterable[str], place: str) -> list[str]:
    return [f"take {name} from {place}" for name in names][:3]
