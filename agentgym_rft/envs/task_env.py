"""Base of environments with a list of tasks: task selection, the step limit, and snapshots."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.task_selection import check_split, chosen_task, drawn_task, read_snapshot
from agentgym_rft.errors import ConfigError, EnvError

TRAIN_AND_TEST = ("train", "test")
_SNAPSHOT_KEYS = {"env", "options", "task_id", "state", "observation", "num_steps", "is_over", "is_invalid", "rng"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an action. A final one ends the episode; a win is final."""

    observation: str
    reward: float = 0.0
    is_final: bool = False
    is_invalid: bool = False


class TaskEnv(TextEnv):
    """Base of environments that play one of a list of tasks. A subclass writes the five methods that are abstract here.

    Args:
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        render_mode: `ansi`: `render()` returns the last observation.
        options: what defines the tasks; a snapshot is refused where they differ.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    can_snapshot: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = TRAIN_AND_TEST
    snapshot_kind: ClassVar[str]  # name and version of the snapshots

    def __init__(self, split: str, max_steps: int, render_mode: str | None, options: Mapping[str, Any]) -> None:
        self.check_split(split)
        if max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 1.")
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"There is no render mode '{render_mode}'; expected 'ansi' or none.")
        self.render_mode = render_mode
        self._split = split
        self._max_steps = max_steps
        self._options = dict(options)
        self._task_id = self._observation = ""
        self._num_steps = 0
        self._is_over = True
        self._is_invalid = False

    @abstractmethod
    def _begin(self, task_id: str) -> str:
        """Load a task and give its first observation. Raises `DataError` if there is none of that id."""

    @abstractmethod
    def _act(self, action: str) -> Outcome:
        """Answer an action of a running episode."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """`won`, `score`, `state_key` and the optional keys of info that this environment gives."""

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """What changes within an episode, as JSON values."""

    @abstractmethod
    def _resume(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_saved` gave; the task is loaded already. Any LookupError, TypeError or ValueError means
        that it is damaged.
        """

    @classmethod
    def check_split(cls, split: str) -> None:
        """Raises `DataError` for a name that is no split."""
        check_split(split, cls.splits)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin `options["task_id"]`, else a task drawn from the split. Returns the first observation, and info."""
        super().reset(seed=seed)
        unknown = set(options or ()) - {"task_id"}
        if unknown:
            raise EnvError(f"reset does not know the option '{unknown.pop()}'; expected 'task_id'.")
        task_id = chosen_task(options, lambda: drawn_task(self.task_ids(self._split), self.np_random))
        self._is_over = True  # until the task is loaded
        self._observation = self._begin(task_id)
        self._task_id = task_id
        self._num_steps = 0
        self._is_over = self._is_invalid = False
        return self._observation, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._is_over:
            raise EnvError("There is no running episode; call reset before step.")
        if not isinstance(action, str):
            raise EnvError(f"An action is text, not a {type(action).__name__}.")
        outcome = self._act(action)
        self._observation, self._is_invalid = outcome.observation, outcome.is_invalid
        self._num_steps += 1
        truncated = not outcome.is_final and self._num_steps >= self._max_steps
        self._is_over = outcome.is_final or truncated
        return outcome.observation, outcome.reward, outcome.is_final, truncated, self._info()

    def render(self) -> str | None:
        """The last observation in render mode `ansi`."""
        return self._observation if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._is_over = True

    def snapshot(self) -> bytes:
        """The whole episode, random state included; any instance with the same options restores it."""
        if not self._task_id:
            raise EnvError("There is no episode to take a snapshot of; call reset first.")
        saved = {
            "env": self.snapshot_kind,
            "options": self._options,
            "task_id": self._task_id,
            "state": self._saved(),
            "observation": self._observation,
            "num_steps": self._num_steps,
            "is_over": self._is_over,
            "is_invalid": self._is_invalid,
            "rng": self.np_random.bit_generator.state,
        }
        return json.dumps(saved, separators=(",", ":")).encode()

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        """Continue from a snapshot. Returns the observation and info at that point.

        Raises `EnvError` if the snapshot is damaged, of another environment or of other options.
        """
        saved = read_snapshot(snapshot, self.snapshot_kind, _SNAPSHOT_KEYS, self._options)
        self._is_over = True  # until all is restored
        try:
            self._begin(saved["task_id"])
            self._resume(saved["state"])
            self.np_random.bit_generator.state = saved["rng"]
        except (LookupError, TypeError, ValueError) as error:  # a DataError is a ValueError
            raise EnvError(f"The snapshot is damaged ({error}); take a new one.") from error
        self._task_id, self._observation = saved["task_id"], saved["observation"]
        self._num_steps = saved["num_steps"]
        self._is_over, self._is_invalid = saved["is_over"], saved["is_invalid"]
        return self._observation, self._info()

    def _info(self) -> dict[str, Any]:
        return {"task_id": self._task_id, **self._facts(), "invalid_action": self._is_invalid}
