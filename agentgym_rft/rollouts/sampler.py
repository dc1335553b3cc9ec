"""Chooses the next training tasks: in passes over a split, or by how often they are won. Checkpoints hold its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agentgym_rft.config.run import TasksSection
from agentgym_rft.core import Group
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.seeds import derive_seed

UNKNOWN_RATE = 0.5  # of a task that was never played
NEWEST = 0.5  # weight of a task's newest group in its rate, a moving average
RECHECK = 5  # a task that is left out is played every so many times it comes up
FLOOR = 0.01  # weight in frontier order of a task that is always won or always lost, where rate 0.5 has 0.25


class TaskSampler:
    """Draws tasks. The draws follow from the seed, the draws before, and the observed outcomes.

    By default every task comes once in each pass, in an order that follows from the seed and the pass alone.

    Args:
        section: other orders, and whether solved tasks are left out; see docs/experience.md.
    """

    def __init__(
        self, task_ids: Sequence[str], seed: int, cursor: int = 0, section: TasksSection | None = None
    ) -> None:
        if not task_ids:
            raise DataError("The training split has no tasks.")
        self._task_ids = task_ids
        self._seed = seed
        self._section = section or TasksSection()
        self.cursor = cursor  # tasks passed so far, over all passes; left-out ones included
        self._rates: dict[str, float] = {}
        self._num_skipped: dict[str, int] = {}
        self._pass_number = -1
        self._order: Sequence[int] = ()

    @property
    def _tells_rates(self) -> bool:
        return self._section.order in ("easy_to_hard", "frontier") or self._section.skip_solved is not None

    def draw(self, num_tasks: int) -> list[str]:
        """Return the next tasks."""
        if self._section.order == "frontier":
            return self._draw_frontier(num_tasks)
        return [self._next() for _ in range(num_tasks)]

    def observe(self, group: Group) -> None:
        """Take in the outcome of a task: the share of its group's valid first attempts that won."""
        valid = [trajectory for trajectory in group.valid if trajectory.parent_id is None]
        if not valid or not self._tells_rates:
            return
        rate = sum(trajectory.won for trajectory in valid) / len(valid)
        before = self._rates.get(group.task_id, rate)
        self._rates[group.task_id] = before + NEWEST * (rate - before)

    def metrics(self) -> dict[str, float]:
        """Return tasks that were seen and solved, and the mean rate of those seen; nothing where no rates are kept."""
        if not self._tells_rates:
            return {}
        known = dict(self._rates)  # copied in one go: batches that are played ahead add to it from another thread
        return {
            "tasks/seen": float(len(known)),
            "tasks/solved": float(sum(self._is_solved(task_id) for task_id in known)),
            "tasks/rate": sum(known.values()) / max(len(known), 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        if not self._tells_rates:
            return {"cursor": self.cursor}
        running = (
            {"pass": self._pass_number, "order": list(self._order)} if self._section.order == "easy_to_hard" else {}
        )
        return {"cursor": self.cursor, "rates": dict(self._rates), "skipped": dict(self._num_skipped), **running}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.cursor = int(state["cursor"])
        self._rates = {str(task): float(rate) for task, rate in state.get("rates", {}).items()}
        self._num_skipped = {str(task): int(number) for task, number in state.get("skipped", {}).items()}
        self._pass_number = int(state.get("pass", -1))
        self._order = [int(index) for index in state.get("order", ())]

    def _next(self) -> str:
        """Return the next task of the passes that is not left out. If all are, the one that came up last."""
        for _ in range(len(self._task_ids)):
            task_id = self._at(self.cursor)
            self.cursor += 1
            if not self._is_left_out(task_id):
                return task_id
        return task_id

    def _is_left_out(self, task_id: str) -> bool:
        """Return whether to skip a solved task whose turn it is. It is still played every `RECHECK` times."""
        if not self._is_solved(task_id):
            return False
        number = self._num_skipped.get(task_id, 0) + 1
        self._num_skipped[task_id] = number % RECHECK
        return number < RECHECK

    def _is_solved(self, task_id: str) -> bool:
        threshold = self._section.skip_solved
        return threshold is not None and self._rates.get(task_id, 0.0) >= threshold

    def _at(self, position: int) -> str:
        number, index = divmod(position, len(self._task_ids))
        if self._section.order == "sequential":
            return self._task_ids[index]
        if number != self._pass_number:
            rng = np.random.default_rng(derive_seed(self._seed, "tasks", number))
            self._order = rng.permutation(len(self._task_ids)).tolist()
            if self._section.order == "easy_to_hard":
                self._order = sorted(self._order, key=lambda i: -self._rate(self._task_ids[i]))
            self._pass_number = number
        return self._task_ids[self._order[index]]

    def _draw_frontier(self, num_tasks: int) -> list[str]:
        """Return tasks at random, without repeats as far as there are enough, by weight rate (1 - rate) or the
        floor.
        """
        drawn: list[str] = []
        while len(drawn) < num_tasks:
            weights = np.array([self._weight(task_id) for task_id in self._task_ids])
            rng = np.random.default_rng(derive_seed(self._seed, "frontier", self.cursor))
            number = min(num_tasks - len(drawn), len(self._task_ids))
            chosen = rng.choice(len(self._task_ids), size=number, replace=False, p=weights / weights.sum())
            drawn += [self._task_ids[int(index)] for index in chosen]
            self.cursor += number
        return drawn

    def _weight(self, task_id: str) -> float:
        rate = self._rate(task_id)
        return FLOOR if self._is_solved(task_id) else max(rate * (1 - rate), FLOOR)

    def _rate(self, task_id: str) -> float:
        return self._rates.get(task_id, UNKNOWN_RATE)
