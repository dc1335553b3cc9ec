"""Base of environments with one agent and a list of tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.task_selection import ListedTasks, check_reset_options, text_action
from agentgym_rft.errors import EnvError


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an action. A final one ends the episode; a win is final."""

    observation: str
    reward: float = 0.0
    is_final: bool = False
    is_invalid: bool = False


class TaskEnv(ListedTasks, TextEnv):
    """Base of environments that play one of a list of tasks; `ListedTasks` says what the arguments mean.

    A subclass writes `_begin`, `_act`, `_facts`, `_saved` and `_resume`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    _book_keys = ("observation", "num_steps", "is_over", "is_invalid")

    def __init__(self, split: str, max_steps: int, render_mode: str | None, options: Mapping[str, Any]) -> None:
        super().__init__(split, max_steps, render_mode, options)
        self._observation = ""
        self._is_over = True
        self._is_invalid = False

    @abstractmethod
    def _act(self, action: str) -> Outcome:
        """Answer an action of a running episode."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return `won`, `score`, `state_key` and the optional keys of info that this environment gives."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin `options["task_id"]`, else a task drawn from the split. Returns the first observation, and info."""
        super().reset(seed=seed)
        check_reset_options(options)
        self._observation = self._open_task(self._choose_task(options))
        self._is_over = False
        return self._observation, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._is_over:
            raise EnvError("There is no running episode; call reset before step.")
        outcome = self._act(text_action(action))
        self._observation, self._is_invalid = outcome.observation, outcome.is_invalid
        self._num_steps += 1
        truncated = not outcome.is_final and self._num_steps >= self._max_steps
        self._is_over = outcome.is_final or truncated
        return outcome.observation, outcome.reward, outcome.is_final, truncated, self._info()

    def render(self) -> str | None:
        """Return the last observation in render mode `ansi`."""
        return self._observation if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._is_over = True

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        super().restore(snapshot)
        return self._observation, self._info()

    def _own_generator(self) -> np.random.Generator:
        rng: np.random.Generator = self.np_random
        return rng

    def _clear_books(self) -> None:
        self._is_over, self._is_invalid = True, False

    def _books(self) -> dict[str, Any]:
        return {
            "observation": self._observation,
            "num_steps": self._num_steps,
            "is_over": self._is_over,
            "is_invalid": self._is_invalid,
        }

    def _take_books(self, saved: Mapping[str, Any]) -> None:
        self._observation, self._num_steps = saved["observation"], saved["num_steps"]
        self._is_over, self._is_invalid = saved["is_over"], saved["is_invalid"]

    def _info(self) -> dict[str, Any]:
        return {"task_id": self._task_id, **self._facts(), "invalid_action": self._is_invalid}
