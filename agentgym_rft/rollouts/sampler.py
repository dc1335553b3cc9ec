"""Which tasks come next: shuffled passes over a split, with a cursor that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.seeds import derive_seed


class TaskSampler:
    """Draws every task once in each pass; the order of a pass follows from the seed and the pass alone."""

    def __init__(self, task_ids: Sequence[str], seed: int, cursor: int = 0) -> None:
        if not task_ids:
            raise DataError("The training split has no tasks.")
        self._task_ids = task_ids
        self._seed = seed
        self.cursor = cursor  # tasks drawn so far, over all passes

    def draw(self, num_tasks: int) -> list[str]:
        """The next tasks."""
        drawn = [self._at(self.cursor + i) for i in range(num_tasks)]
        self.cursor += num_tasks
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON holds it."""
        return {"cursor": self.cursor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cursor = int(state["cursor"])

    def _at(self, position: int) -> str:
        number, index = divmod(position, len(self._task_ids))
        if number != self._pass_number:
            rng = np.random.default_rng(derive_seed(self._seed, "tasks", number))
            self._order = rng.permutation(len(self._task_ids))
            self._pass_number = number
        return self._task_ids[int(self._order[index])]

    _pass_number = -1
    _order: np.ndarray = np.empty(0, dtype=int)
