"""Tasks of environments of other libraries: a task is the seed that an episode is reset with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import ClassVar

from agentgym_rft.envs.base import TextTasks
from agentgym_rft.errors import DataError

MAX_STEPS = 1000
SEEDS = {"train": range(10_000), "test": range(10_000, 11_000)}
_TASK_ID = re.compile(r"seed-(0|[1-9][0-9]{0,8})")


def seed_of(task_id: str) -> int:
    """Return the seed that a task id names. Raises `DataError` for any other text."""
    match = _TASK_ID.fullmatch(task_id)
    if match is None or not any(int(match[1]) in seeds for seeds in SEEDS.values()):
        last = SEEDS["test"].stop - 1
        raise DataError(f"There is no task '{task_id}'; expected seed-0 to seed-{last}.")
    return int(match[1])


class SeedTasks(TextTasks):
    """The part that all adapters share: tasks that are seeds, and a hash of the history as state key.

    Equal keys mean equal states, where the game is deterministic given its seed; the reverse is not known.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(SEEDS)

    def name_tasks(self, name: str, content: str) -> None:
        """Set the game's name, for errors, and what identifies it: with the seed, that is the content of a task."""
        self._name, self._content = name, content
        self._history = hashlib.blake2b(digest_size=16)

    def task_ids(self, split: str) -> Sequence[str]:
        if split not in SEEDS:
            raise DataError(f"{self._name} has no split '{split}'; expected one of {', '.join(SEEDS)}.")
        return [f"seed-{seed}" for seed in SEEDS[split]]

    def task_content(self, task_id: str) -> bytes:
        return f"{self._content} {seed_of(task_id)}".encode()

    def _forget(self, task_id: str) -> None:
        """Begin the history of a task."""
        self._history = hashlib.blake2b(self.task_content(task_id), digest_size=16)

    def _remember(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._history.update(len(data).to_bytes(8, "little") + data)
