"""A player of FrozenLake that reads the map and plans by value iteration."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv as GymnasiumLake

from agentgym_rft.errors import EnvError

ACTIONS = ("left", "down", "right", "up")  # in gymnasium's order
_STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))
_HASTE = 1 - 1e-6  # of two ways that win equally often, the shorter is better


class LakePlayer:
    """Plays what wins most often within `num_steps` actions; at rate `noise` any move that is not sure to drown it."""

    def __init__(
        self, num_steps: int, is_slippery: bool, rng: np.random.Generator | None = None, noise: float = 0.0
    ) -> None:
        self._num_steps = self._left = num_steps
        self._is_slippery = is_slippery
        self._rng = rng
        self._noise = noise

    def act(self, observation: str) -> str:
        """Return the next move. Raises `EnvError` if the observation does not end with a map that shows the player."""
        lake_map, row, column = read_map(observation)
        left = max(1, self._left)
        self._left -= 1
        if self._rng is not None and self._rng.random() < self._noise:
            dry = [index for index in range(4) if not _drowns(lake_map, row, column, index)]
            return ACTIONS[dry[int(self._rng.integers(len(dry)))]] if dry else ACTIONS[0]
        table = plan(lake_map, self._is_slippery, self._num_steps)
        return ACTIONS[int(table[left - 1, row * len(lake_map) + column])]


def read_map(observation: str) -> tuple[tuple[str, ...], int, int]:
    """Return the map at the end of an observation, and row and column of the player.
    Raises `EnvError` if there is none.
    """
    lines = observation.rstrip().splitlines()
    size = (len(lines[-1]) + 1) // 2 if lines else 0
    cells = [line.split(" ") for line in lines[-size:]] if size else []
    found = [(y, x) for y, row in enumerate(cells) for x, cell in enumerate(row) if cell == "P"]
    if len(found) != 1 or any(len(row) != size or not set(row) <= set("PSFHG") for row in cells):
        raise EnvError("The observation does not end with a map that shows the player.")
    row, column = found[0]
    cells[row][column] = "F" if (row, column) != (0, 0) else "S"
    return tuple("".join(line) for line in cells), row, column


@functools.lru_cache(maxsize=512)
def plan(lake_map: tuple[str, ...], is_slippery: bool, num_steps: int) -> np.ndarray:
    """Return the best action [num_steps, number of cells] with 1, 2, ... `num_steps` actions left.

    Finite-horizon value iteration on gymnasium's own transition table.
    """
    transitions = gymnasium_lake(lake_map, is_slippery).P
    num_cells = len(lake_map) ** 2
    move = np.zeros((num_cells, 4, num_cells))
    gain = np.zeros((num_cells, 4))
    for cell, actions in transitions.items():
        for action, outcomes in actions.items():
            for probability, after, reward, is_over in outcomes:
                gain[cell, action] += probability * reward
                if not is_over:
                    move[cell, action, after] += probability
    best = np.zeros((num_steps, num_cells), dtype=np.int8)
    value = np.zeros(num_cells)
    for index in range(num_steps):
        by_action = gain + _HASTE * (move @ value)  # [cells, 4]
        best[index] = by_action.argmax(axis=1)
        value = by_action.max(axis=1)
    return best


@functools.lru_cache(maxsize=256)
def gymnasium_lake(lake_map: tuple[str, ...], is_slippery: bool) -> GymnasiumLake:
    """Return gymnasium's environment of a map, to be copied before it is stepped."""
    return GymnasiumLake(desc=list(lake_map), is_slippery=is_slippery)


def num_steps_to_goal(lake_map: Sequence[str], row: int, column: int) -> int | None:
    """Return the length of a shortest way over firm ice; None from a hole, or where there is no way."""
    return _distances(tuple(lake_map)).get((row, column))


@functools.lru_cache(maxsize=4096)
def _distances(lake_map: tuple[str, ...]) -> dict[tuple[int, int], int]:
    """Return steps to the goal from each cell that has a way there, by a search that begins at the goal."""
    size = len(lake_map)
    distances = {(size - 1, size - 1): 0}
    queue = [(size - 1, size - 1)]
    for y, x in queue:
        for down, right in _STEPS:
            cell = (y + down, x + right)
            if cell not in distances and _tile(lake_map, *cell) in "SF":
                distances[cell] = distances[y, x] + 1
                queue.append(cell)
    return distances


def _tile(lake_map: Sequence[str], row: int, column: int) -> str:
    """Return the letter of a cell; a hole outside."""
    is_inside = 0 <= row < len(lake_map) and 0 <= column < len(lake_map)
    return lake_map[row][column] if is_inside else "H"


def _drowns(lake_map: Sequence[str], row: int, column: int, action: int) -> bool:
    """Return True if a move that does not slip ends in a hole; at the edge it ends where it began."""
    size = len(lake_map)
    down, right = _STEPS[action]
    return lake_map[min(max(row + down, 0), size - 1)][min(max(column + right, 0), size - 1)] == "H"
