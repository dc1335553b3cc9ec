"""Shared by environments with a list of tasks, of one agent or several: task selection, the step limit, snapshots."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.base import TRAIN_AND_TEST, TextTasks
from agentgym_rft.errors import ConfigError, DataError, EnvError


class ListedTasks(TextTasks):
    """The part that `TaskEnv` and `TeamTaskEnv` share: they play one of a list of tasks and can be saved in the middle.

    Args:
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions, all agents' together.
        render_mode: `ansi`: `render()` returns what is to be read.
        options: what defines the tasks; a snapshot is refused where they differ.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    can_snapshot: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = TRAIN_AND_TEST
    snapshot_kind: ClassVar[str]  # name and version of the snapshots
    _book_keys: ClassVar[tuple[str, ...]]  # of what `_books` gives

    def __init__(self, split: str, max_steps: int, render_mode: str | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.check_split(split)
        if max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 1.")
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"There is no render mode '{render_mode}'; expected 'ansi' or none.")
        self.render_mode = render_mode
        self._split = split
        self._max_steps = max_steps
        self._options = dict(options)
        self._task_id = ""
        self._num_steps = 0

    @abstractmethod
    def _begin(self, task_id: str) -> str:
        """Load a task. Return the first observation; with several agents, tell each its own and return who acts first.

        Raises `DataError` if there is no task of that id.
        """

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """Return what changes within an episode, as JSON values."""

    @abstractmethod
    def _resume(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_saved` gave; the task is loaded already. Any LookupError, TypeError or ValueError means
        that it is damaged.
        """

    @abstractmethod
    def _own_generator(self) -> np.random.Generator:
        """Return the environment's own generator."""

    @abstractmethod
    def _clear_books(self) -> None:
        """Begin the books anew; no episode runs until they say so."""

    @abstractmethod
    def _books(self) -> dict[str, Any]:
        """Return what the base itself keeps of an episode, as JSON values under `_book_keys`."""

    @abstractmethod
    def _take_books(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_books` gave."""

    @classmethod
    def check_split(cls, split: str) -> None:
        """Raise `DataError` for a name that is no split."""
        check_split(split, cls.splits)

    def snapshot(self) -> bytes:
        """Return the whole episode, random state included; any instance with the same options restores it."""
        if not self._task_id:
            raise EnvError("There is no episode to take a snapshot of; call reset first.")
        saved = {
            "env": self.snapshot_kind,
            "options": self._options,
            "task_id": self._task_id,
            "state": self._saved(),
            **self._books(),
            "rng": self._own_generator().bit_generator.state,
        }
        return json.dumps(saved, separators=(",", ":")).encode()

    def restore(self, snapshot: bytes) -> Any:
        """Continue from a snapshot. Raises `EnvError` if it is damaged, of another environment or of other options."""
        try:
            saved = json.loads(snapshot)
        except ValueError as error:
            raise EnvError("The snapshot is damaged; take a new one.") from error
        keys = {"env", "options", "task_id", "state", *self._book_keys, "rng"}
        if not isinstance(saved, dict) or saved.keys() != keys or saved["env"] != self.snapshot_kind:
            raise EnvError(
                f"The snapshot is not one of {self.snapshot_kind}; restore it in the kind of environment that made it."
            )
        if saved["options"] != self._options:
            raise EnvError(f"The snapshot is of options {saved['options']}, this environment has {self._options}.")
        try:
            self._open_task(saved["task_id"])
            self._resume(saved["state"])
            self._own_generator().bit_generator.state = saved["rng"]
            self._take_books(saved)
        except (LookupError, TypeError, ValueError) as error:  # a DataError is a ValueError
            raise EnvError(f"The snapshot is damaged ({error}); take a new one.") from error

    def _open_task(self, task_id: str) -> str:
        """Begin a task with new books. Returns what `_begin` does."""
        self._task_id, self._num_steps = task_id, 0
        self._clear_books()
        return self._begin(task_id)

    def _choose_task(self, options: Mapping[str, Any] | None) -> str:
        """Return `options["task_id"]`, else one drawn from the split.
        Raises `EnvError` for an id that is no text.
        """
        task_id = (options or {}).get("task_id")
        if task_id is None:
            ids = self.task_ids(self._split)
            return ids[int(self._own_generator().integers(len(ids)))]
        if not isinstance(task_id, str):
            raise EnvError(f"A task_id is text, not a {type(task_id).__name__}.")
        return task_id


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raise `DataError` for a name that is no split."""
    if split not in splits:
        raise DataError(f"There is no split '{split}'; expected one of {', '.join(splits)}.")


def check_reset_options(options: Mapping[str, Any] | None) -> None:
    """Raise `EnvError` for an option of `reset` that is not `task_id`."""
    unknown = set(options or ()) - {"task_id"}
    if unknown:
        raise EnvError(f"reset does not know the option '{unknown.pop()}'; expected 'task_id'.")


def text_action(action: object) -> str:
    """Return an action. Raises `EnvError` for one that is no text."""
    if not isinstance(action, str):
        raise EnvError(f"An action is text, not a {type(action).__name__}.")
    return action
