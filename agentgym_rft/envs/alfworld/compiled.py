"""A game compiled to small integers: what never changes while it is played, and the texts made of it.

Objects and receptacles are numbered in the order of their (lower-case) ids, which is the order of ALFWorld's listings;
sets of receptacles and of locations are bit masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agentgym_rft.envs.alfworld.game import TaskType

CLEAN, HOT, COOL, SLICED, TOGGLED = 1, 2, 4, 8, 16  # flags of an object
VERBS = (
    *("look", "inventory", "help", "go to", "open", "close", "examine receptacle", "examine object", "use"),
    *("take", "move", "clean", "heat", "cool", "slice"),
)
_COMMAND = re.compile(
    r"(go to|open|close|examine|use) (.+)|(take) (.+) from (.+)|(move) (.+) to (.+)"
    r"|(clean|heat|cool|slice) (.+) with (.+)"
)
_OPCODE = {verb: code for code, verb in enumerate(VERBS)}
Command = tuple[int, int, int]  # index into VERBS, first and second argument


@dataclass(frozen=True, slots=True)
class Start:
    """The state that a game starts in, as `World` keeps it."""

    location: int
    held: int  # -1: nothing
    opened: int  # receptacles
    flags: tuple[int, ...]  # per object
    inside: tuple[int, ...]  # per object: receptacles that it is in
    at: tuple[int, ...]  # per object: locations that it is at
    contents: tuple[tuple[int, ...], ...]  # per receptacle
    listings: tuple[str, ...]  # per receptacle: its contents in words


@dataclass(frozen=True, slots=True)
class Win:
    """When a game is won, with the static parts of the goal worked out."""

    kind: TaskType
    objects: tuple[int, ...]  # those of the right type that can get the property
    receptacles: tuple[int, ...]
    receptacle_mask: int
    flags: int  # that the object must have
    lamps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompiledGame:
    """One game, shared by all worlds that play it."""

    digest: str  # of the game's content
    task: str
    intro: str
    objects: tuple[str, ...]  # names, `mug 1`
    receptacles: tuple[str, ...]
    object_types: tuple[frozenset[str], ...]  # with the `Type` suffix
    receptacle_types: tuple[frozenset[str], ...]
    object_index: Mapping[str, int]
    receptacle_index: Mapping[str, int]
    location_of: tuple[int, ...]  # per receptacle, -1: nowhere
    here: tuple[tuple[int, ...], ...]  # per location: its receptacles
    here_mask: tuple[int, ...]
    crowded: int  # receptacles that share their location with another one
    openable: int  # receptacles
    accepts: tuple[frozenset[int], ...]  # per receptacle: objects that can be put there
    pickupable: frozenset[int]
    toggleable: frozenset[int]
    sliceable: frozenset[int]
    knives: frozenset[int]
    can: Mapping[str, frozenset[int]]  # clean, heat, cool: objects
    appliances: Mapping[str, int]  # clean, heat, cool: receptacles
    inner: Mapping[int, str]  # receptacle objects: what `examine` prints
    facing: tuple[str, ...]  # per location: what `look` begins with, empty where no receptacle is
    go_commands: tuple[tuple[str, ...], ...]  # per location, sorted
    examine_commands: tuple[tuple[str, ...], ...]  # per location, sorted: of its receptacles
    start: Start
    win: Win
    commands: dict[str, Command]  # parsed so far

    def command(self, text: str) -> Command | None:
        """Return the parsed command, None if it is none or names something that the game does not have."""
        found = self.commands.get(text)
        if found is None:
            found = self._parse(text)
            if found is not None:
                self.commands[text] = found
        return found

    def _parse(self, text: str) -> Command | None:
        if text in ("look", "inventory", "help"):
            return _OPCODE[text], -1, -1
        match = _COMMAND.fullmatch(text)
        if match is None:
            return None
        verb, *names = [part for part in match.groups() if part is not None]
        if verb == "examine":
            verb = "examine receptacle" if names[0] in self.receptacle_index else "examine object"
        first = self.receptacle_index if verb in ("go to", "open", "close", "examine receptacle") else self.object_index
        second = self.object_index if verb == "slice" else self.receptacle_index
        a = first.get(names[0])
        b = second.get(names[1]) if len(names) > 1 else -1
        return None if a is None or b is None else (_OPCODE[verb], a, b)


def listing(names: Sequence[str]) -> str:
    """Names as ALFWorld lists them: `nothing`, `x`, `x, and y`, `x, y, and z`."""
    if len(names) < 2:
        return names[0] if names else "nothing"
    return f"{', '.join(names[:-1])}, and {names[-1]}"


def with_article(names: Iterable[str]) -> str:
    """Return a listing with the article `a`, which ALFWorld uses for every name."""
    return listing([f"a {name}" for name in names])
