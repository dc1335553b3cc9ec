"""A player of Sokoban that reads the grid and plans shortest solutions."""

from __future__ import annotations

import numpy as np

from agentgym_rft.envs.sokoban.room import DIRECTIONS, SYMBOLS, Position, Room, move, parse
from agentgym_rft.envs.sokoban.solver import possible_moves, solve
from agentgym_rft.errors import EnvError


class Player:
    """Plays a shortest plan. At rate `noise` it walks somewhere else, without pushing, and then plans again.

    Where nothing can be won any more it walks about.
    """

    def __init__(self, rng: np.random.Generator | None = None, noise: float = 0.0) -> None:
        self._rng = rng
        self._noise = noise
        self._expected: Position | None = None  # what the grid shows if the plan is still being followed
        self._plan: list[str] = []

    def act(self, observation: str) -> str:
        """Return the next move. Raises `EnvError` if the observation has no grid at its end."""
        room, position = read_grid(observation)
        if self._rng is not None and self._rng.random() < self._noise:
            walks = _walks(room, position)
            if walks:
                self._expected = None
                return walks[int(self._rng.integers(len(walks)))]
        if position != self._expected:
            plan = solve(room, position)
            self._plan = list(plan.moves[::-1]) if plan is not None else []
        if not self._plan:
            self._expected = None
            return (_walks(room, position) or possible_moves(room, position) or [DIRECTIONS[0]])[0]
        word = self._plan.pop()
        self._expected = move(room, position, room.steps[DIRECTIONS.index(word)])
        return word


def read_grid(observation: str) -> tuple[Room, Position]:
    """Return the room and position at the end of an observation. Raises `EnvError` if there is none."""
    lines = [line.replace(" ", "") for line in observation.rstrip().splitlines()]
    first = len(lines)
    while first and lines[first - 1] and set(lines[first - 1]) <= SYMBOLS:
        first -= 1
    if first == len(lines):
        raise EnvError("The observation does not end with a grid.")
    return parse(lines[first:])


def _walks(room: Room, position: Position) -> list[str]:
    """Return the moves that push no box."""
    steps = zip(DIRECTIONS, room.steps, strict=True)
    after = [(word, move(room, position, step)) for word, step in steps]
    return [word for word, next in after if next is not None and next.boxes == position.boxes]
