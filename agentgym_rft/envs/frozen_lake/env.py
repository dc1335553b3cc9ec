"""FrozenLake in text, on gymnasium's own environment and map generator."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv as GymnasiumLake
from gymnasium.envs.toy_text.frozen_lake import generate_random_map

from agentgym_rft.envs.frozen_lake.player import ACTIONS, LakePlayer, gymnasium_lake, num_steps_to_goal
from agentgym_rft.envs.generated import distinct_seeds
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.errors import ConfigError, DataError

VERSION = 1  # rises whenever a map of a seed changes
SPLIT_SIZES = {"train": 500, "test": 100}
MIN_SIZE, MAX_SIZE = 4, 12
GOAL = "walk to G without falling into a hole"
SLIPPERY = "The ice is slippery: you go where you want one time in three, else to one of the two sides."
_TASK_ID = re.compile(r"(.+)/(train|test)/(0|[1-9][0-9]{0,8})")
_ACTION = re.compile(r"\s*(?:(?:move|go|walk)\s+)?(left|down|right|up)\s*\.?\s*", re.IGNORECASE)


class FrozenLakeEnv(TaskEnv):
    """Cross a frozen lake. Reward and score are 1 at the goal, else 0; falling into a hole ends the episode.

    Args:
        size: cells on each side, 4 to 12.
        frozen: the share of cells that the map generator freezes; the others are holes.
        is_slippery: two moves in three go astray to a side, as in gymnasium.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        admissible: give `info["admissible_actions"]`: the moves that stay on the map, all four on slippery ice.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    snapshot_kind: ClassVar[str] = "frozen-lake-1"

    def __init__(
        self,
        size: int = 4,
        frozen: float = 0.8,
        is_slippery: bool = False,
        split: str = "train",
        max_steps: int = 100,
        admissible: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise ConfigError(f"size is {size}; expected {MIN_SIZE} to {MAX_SIZE}.")
        if not 0.5 <= frozen <= 0.95:
            raise ConfigError(f"frozen is {frozen}; expected 0.5 to 0.95, so that maps have holes and a way.")
        super().__init__(split, max_steps, render_mode, {"size": size, "frozen": frozen, "is_slippery": is_slippery})
        self._size, self._frozen, self._is_slippery = size, frozen, is_slippery
        self._show_admissible = admissible
        self._map: tuple[str, ...] = ()
        self._lake: GymnasiumLake | None = None

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return tuple(f"{self._prefix()}/{split}/{seed}" for seed in self._seeds(split))

    def task_content(self, task_id: str) -> bytes:
        ice = "slippery" if self._is_slippery else "firm"
        return "\n".join((ice, *self._map_of(task_id))).encode()

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> LakePlayer:
        """Return a player that reads the map; at rate `noise` it takes another way that does not lead straight into a
        hole.
        """
        return LakePlayer(self._max_steps, SLIPPERY in observation, rng, noise)

    def oracle(self) -> LakePlayer:
        """Return the player that wins most often within the steps that are left; on firm ice it takes a shortest
        way.
        """
        return LakePlayer(max(1, self._max_steps - self._num_steps), self._is_slippery)

    def remaining(self) -> int | None:
        """Return the length of a shortest way to the goal.
        None on slippery ice, where no number of actions is sure to win.
        """
        if self._lake is None or self._is_slippery:
            return None
        return num_steps_to_goal(self._map, *divmod(int(self._lake.s), self._size))

    def _begin(self, task_id: str) -> str:
        self._map = self._map_of(task_id)
        self._lake = copy.copy(gymnasium_lake(self._map, self._is_slippery))  # the tables are shared, the state is not
        self._lake.np_random = self.np_random  # one generator for all that is drawn
        self._lake.reset()
        slippery = f"{SLIPPERY}\n" if self._is_slippery else ""
        return (
            "You are P on a frozen lake. Walk to the goal G without falling into a hole.\n"
            f"Actions: {', '.join(ACTIONS)}.\n{slippery}"
            f"Symbols: P you, S start, F frozen, H hole, G goal.\n{self._grid()}"
        )

    def _act(self, action: str) -> Outcome:
        lake = self._running()
        match = _ACTION.fullmatch(action)
        if match is None:
            return Outcome(f"That is no action. Write left, down, right or up.\n{self._grid()}", is_invalid=True)
        before = int(lake.s)
        _, reward, terminated, _, _ = lake.step(ACTIONS.index(match[1].lower()))
        row, column = divmod(int(lake.s), self._size)
        tile = self._map[row][column]
        said = {"H": "You fell into a hole. You lose.", "G": "You reached the goal. You win."}.get(tile)
        if said is None:
            said = "You are where you were." if lake.s == before else f"You are in row {row + 1}, column {column + 1}."
        return Outcome(f"{said}\n{self._grid()}", reward=float(reward), is_final=bool(terminated))

    def _facts(self) -> dict[str, Any]:
        row, column = divmod(int(self._running().s), self._size)
        won = self._map[row][column] == "G"
        facts: dict[str, Any] = {
            "won": won,
            "score": float(won),
            "state_key": f"{'slippery' if self._is_slippery else 'firm'} {'/'.join(self._map)} {row},{column}",
            "task_type": f"{num_steps_to_goal(self._map, 0, 0)} steps",
            "goal": GOAL,
        }
        if self._show_admissible:
            last = self._size - 1
            stays = (column > 0, row < last, column < last, row > 0)
            named = zip(ACTIONS, stays, strict=True)
            facts["admissible_actions"] = [word for word, can in named if can or self._is_slippery]
        return facts

    def _saved(self) -> dict[str, Any]:
        return {"cell": int(self._running().s)}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        if not isinstance(saved["cell"], int) or not 0 <= saved["cell"] < self._size**2:
            raise ValueError(f"its cell is {saved['cell']!r}")
        self._running().s = saved["cell"]

    def _running(self) -> GymnasiumLake:
        assert self._lake is not None, "the base class asks only within an episode"
        return self._lake

    def _seeds(self, split: str) -> tuple[int, ...]:
        return map_seeds(self._size, self._frozen)[split]

    def _prefix(self) -> str:
        return f"v{VERSION}/{self._size}x{self._size}-{self._frozen:g}{'-slippery' if self._is_slippery else ''}"

    def _map_of(self, task_id: str) -> tuple[str, ...]:
        match = _TASK_ID.fullmatch(task_id)
        if match is None or match[1] != self._prefix() or int(match[3]) not in self._seeds(match[2]):
            raise DataError(f"There is no task '{task_id}'; expected one like '{self.task_ids('train')[0]}'.")
        return lake_map(self._size, self._frozen, int(match[3]))

    def _grid(self) -> str:
        row, column = divmod(int(self._running().s), self._size)
        lines = [list(line) for line in self._map]
        lines[row][column] = "P"
        return "\n".join(" ".join(line) for line in lines)


@functools.lru_cache(maxsize=4096)
def lake_map(size: int, frozen: float, seed: int) -> tuple[str, ...]:
    """Return gymnasium's random map of a seed, which has a way from start to goal."""
    return tuple(str(row) for row in generate_random_map(size=size, p=frozen, seed=seed))


@functools.lru_cache(maxsize=16)
def map_seeds(size: int, frozen: float) -> Mapping[str, tuple[int, ...]]:
    """Return the seeds of each split; no two have the same map."""
    return distinct_seeds(lambda seed: "\n".join(lake_map(size, frozen, seed)).encode(), SPLIT_SIZES)
