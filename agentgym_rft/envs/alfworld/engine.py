"""The own ALFWorld engine: a household that obeys commands.

Observations, admissible commands and `won` are byte for byte those of alfworld 0.4.2 with textworld 1.7.0, at thousands
of times the speed: a game is compiled once (`compiling.py`), a world holds only what changes (`state.py`).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from agentgym_rft.envs.alfworld.admissible import list_admissible
from agentgym_rft.envs.alfworld.compiled import CompiledGame
from agentgym_rft.envs.alfworld.rules import NOTHING_HAPPENS, OBEY
from agentgym_rft.envs.alfworld.state import State


class Body(NamedTuple):
    """The state of one agent where several share a house: its location and the object in its hand (-1: none).

    While an agent is out, what it holds is nowhere. `inside` and `at` are the places that the object keeps all the
    same, as some real games put an object into several.
    """

    location: int
    held: int = -1
    inside: int = 0
    at: int = 0


class World:
    """A game being played. Cheap to make, to reset and to copy by `snapshot` and `restore`.

    Names are those of the texts (`mug 1`); a name that the game does not have raises `KeyError`.
    """

    __slots__ = ("_state", "game")

    def __init__(self, game: CompiledGame) -> None:
        self.game = game
        self._state = State(game)

    def reset(self) -> None:
        """Back to the start of the game."""
        self._state.reset()

    def observation(self) -> str:
        """Return the text that the game begins with."""
        return self.game.intro

    def step(self, command: str) -> str:
        """Return obey the command and return the feedback, `Nothing happens.` for one that cannot be obeyed now."""
        parsed = self.game.commands.get(command) or self.game.command(command.strip())
        if parsed is None:
            return NOTHING_HAPPENS
        verb, first, second = parsed
        return OBEY[verb](self._state, first, second)

    def admissible(self) -> list[str]:
        """Return the commands that can be obeyed now, sorted."""
        state = self._state
        if state.admissible is None:
            state.admissible = list_admissible(state)
        return state.admissible.copy()

    @property
    def won(self) -> bool:
        """True while the goal is met."""
        return self._state.won

    def snapshot(self) -> bytes:
        """Return the state in a few dozen bytes, for `restore` of this or another world of the same game."""
        return self._state.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot. Raises `EnvError` if it is of another game or damaged."""
        self._state.restore(snapshot)

    def swap(self, body: Body) -> Body:
        """Let another agent be the one that is in the house. Returns the body of the one that was."""
        state, held = self._state, self._state.held
        inside, at = (0, 0) if held < 0 else (state.inside[held], state.at[held])
        if inside or at:
            state.place(held, 0)
            state.at[held] = 0
        left = Body(state.location, held, inside, at)
        state.location, state.held = body.location, body.held
        if body.inside or body.at:
            state.place(body.held, body.inside)
            state.at[body.held] = body.at
        state.changed()
        return left

    def state_key(self) -> str:
        """Return 32 hex digits; two worlds have the same if and only if they are in the same state of equal games.

        The state is all that can bear on what is still seen, can be done or wins, and nothing else.
        """
        state = self._state
        if state.key is None:
            state.key = hashlib.blake2b(state.snapshot(), digest_size=16).hexdigest()
        return state.key

    # --- what is where, for experts with full knowledge ---

    @property
    def holding(self) -> str | None:
        """Name of the object in the hand."""
        return self.game.objects[self._state.held] if self._state.held >= 0 else None

    @property
    def facing(self) -> tuple[str, ...]:
        """Names of the receptacles at the agent's location."""
        return tuple(self.game.receptacles[r] for r in self.game.here[self._state.location])

    def receptacles_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the receptacles that the named object is in; real games sometimes say several."""
        inside = self._state.inside[self.game.object_index[name]]
        return tuple(receptacle for r, receptacle in enumerate(self.game.receptacles) if inside >> r & 1)

    def contents_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the objects in the named receptacle, whether it is open or not."""
        return tuple(self.game.objects[o] for o in self._state.contents[self.game.receptacle_index[name]])

    def is_reachable(self, name: str) -> bool:
        """Return True if one can see and reach into the named receptacle: it is open or cannot be closed."""
        return self._state.is_reachable(self.game.receptacle_index[name])

    def flags_of(self, name: str) -> int:
        """Return CLEAN, HOT, COOL, SLICED and TOGGLED of the named object, added up."""
        return self._state.flags[self.game.object_index[name]]
