"""Writes a gateway's groups to an experience store, which a trainer may read meanwhile."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from agentgym_rft.core import Group
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.store.experience import ExperienceStore, vocabulary_of


class StoreSink:
    """Writes to an experience store. Each group counts as played for the step of its newest weights.

    Raises:
        DataError: the store cannot be used, or is of another tokenizer.
        ConfigError: another program writes to it.
    """

    def __init__(self, path: Path, tokenizer: Any) -> None:
        if not path.parent.is_dir():
            raise ConfigError(f"Cannot write '{path}': there is no directory '{path.parent}'.")
        self._store = ExperienceStore(path, vocabulary_of(tokenizer))
        if owner := self._store.owner:
            self._store.close()
            raise ConfigError(f"The experience store '{path}' is filled by {owner}. Choose another --store.")
        self._store.fill()

    def write(self, group: Group) -> None:
        """Write a group. Raises `DataError` where the disk refuses."""
        turns = [turn for trajectory in group.trajectories for turn in trajectory.turns]
        newest = max(turn.policy_version if turn.last_version is None else turn.last_version for turn in turns)
        try:
            self._store.write(group, newest)
        except sqlite3.Error as error:
            raise DataError(f"Cannot write to '{self._store.path}': {error}.") from error

    def num_trained(self) -> int:
        """Return groups of the store that were trained at least once, whoever wrote them."""
        return self._store.accounting().used

    def close(self) -> None:
        """Say that no more groups come, and close the file."""
        self._store.finish()
        self._store.close()
