"""The Sokoban environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.sokoban.generate import SPLIT_SIZES, Kind, Level, make_level, parse_task_id
from agentgym_rft.envs.sokoban.player import Player
from agentgym_rft.envs.sokoban.room import DIRECTIONS, Position, move, rows
from agentgym_rft.envs.sokoban.solver import possible_moves, solve
from agentgym_rft.envs.task_env import Outcome, TaskEnv

GOAL = "push every box onto a target"
RULES = (
    "You play Sokoban. Push every box onto a target. You can push one box at a time and never pull.\n"
    "Actions: up, down, left, right.\n"
    "Symbols: # wall, _ floor, . target, $ box, * box on target, @ you, + you on target."
)
_ACTION = re.compile(r"\s*(?:(?:move|go|push)\s+)?(up|down|left|right)\s*\.?\s*", re.IGNORECASE)
_TYPE_WIDTH = 10  # moves; task types are ranges of the shortest solution's length


class SokobanEnv(TaskEnv):
    """Generated, solvable levels. Reward 1 on winning, else 0; score is the share of boxes on targets.

    An episode that cannot be won any more continues until the step limit.

    Args:
        width, height: size of the room in cells, its walls included.
        boxes: number of boxes and of targets.
        difficulty: the shortest solution has at least so many moves.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        admissible: give the moves that change something as `info["admissible_actions"]`.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    snapshot_kind: ClassVar[str] = "sokoban-1"

    def __init__(
        self,
        width: int = 7,
        height: int = 7,
        boxes: int = 2,
        difficulty: int = 10,
        split: str = "train",
        max_steps: int = 100,
        admissible: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self._kind = Kind(width, height, boxes, difficulty)
        super().__init__(split, max_steps, render_mode, asdict(self._kind))
        self._show_admissible = admissible
        self._level: Level | None = None
        self._position = Position(0, 0)

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return tuple(self._kind.task_id(split, seed) for seed in range(SPLIT_SIZES[split]))

    def task_content(self, task_id: str) -> bytes:
        return make_level(self._kind, *parse_task_id(self._kind, task_id)).content()

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Player:
        """Return a player that reads the grid and walks astray at rate `noise`, but never pushes a box by mistake."""
        return Player(rng, noise)

    def oracle(self) -> Player:
        """Return the expert without noise: the grid shows everything, and its plans are shortest."""
        return Player()

    def remaining(self) -> int | None:
        """Return the length of a shortest solution; None if there is none, or too many positions to search."""
        if self._level is None:
            return None
        plan = solve(self._level.room, self._position)
        return None if plan is None else plan.num_moves

    def _begin(self, task_id: str) -> str:
        self._level = make_level(self._kind, *parse_task_id(self._kind, task_id))
        self._position = self._level.start
        return f"{RULES}\n{self._grid()}"

    def _act(self, action: str) -> Outcome:
        level = self._loaded()
        match = _ACTION.fullmatch(action)
        if match is None:
            said = "That is no action. Write up, down, left or right."
            return Outcome(f"{said}\n{self._grid()}", is_invalid=True)
        word = match[1].lower()
        after = move(level.room, self._position, level.room.steps[DIRECTIONS.index(word)])
        if after is None:
            return Outcome(f"You cannot move {word}.\n{self._grid()}", is_invalid=True)
        verb = "push a box" if after.boxes != self._position.boxes else "move"
        self._position = after
        won = after.boxes == level.room.targets
        said = f"You {verb} {word}." + (" Every box is on a target. You win." if won else "")
        return Outcome(f"{said}\n{self._grid()}", reward=float(won), is_final=won)

    def _facts(self) -> dict[str, Any]:
        level = self._loaded()
        on_target = (self._position.boxes & level.room.targets).bit_count()
        low = level.num_moves // _TYPE_WIDTH * _TYPE_WIDTH
        facts: dict[str, Any] = {
            "won": self._position.boxes == level.room.targets,
            "score": on_target / self._kind.boxes,
            "state_key": "/".join(rows(level.room, self._position)),
            "task_type": f"{low}-{low + _TYPE_WIDTH - 1} moves",
            "goal": GOAL,
        }
        if self._show_admissible:
            facts["admissible_actions"] = possible_moves(level.room, self._position)
        return facts

    def _saved(self) -> dict[str, Any]:
        return {"player": f"{self._position.player:x}", "boxes": f"{self._position.boxes:x}"}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        room = self._loaded().room
        player, boxes = int(saved["player"], 16), int(saved["boxes"], 16)
        is_whole = player.bit_count() == 1 and boxes.bit_count() == self._kind.boxes
        if not is_whole or (player | boxes) & ~room.floor or player & boxes:
            raise ValueError("its boxes and player are not on the floor")
        self._position = Position(player, boxes)

    def _loaded(self) -> Level:
        assert self._level is not None, "the base class asks only within an episode"
        return self._level

    def _grid(self) -> str:
        return "\n".join(" ".join(row) for row in rows(self._loaded().room, self._position))
