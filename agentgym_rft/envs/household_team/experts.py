"""Scripted players of the team: a planner, workers that know only what they read, and an oracle's planner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentgym_rft.envs.alfworld.expert import SearchExpert, read_task
from agentgym_rft.envs.alfworld.rules import NOTHING_HAPPENS
from agentgym_rft.envs.household_team import speech
from agentgym_rft.errors import DataError

TASK_LINE = "Your task is to: "
WAIT, LOOK = "wait", "look"


class PlannerExpert:
    """Says the task in its own words, once, and then waits. It needs no knowledge but its first observation."""

    def __init__(self, opening: str) -> None:
        task = opening.rpartition(TASK_LINE)[2].split("\n")[0].strip()
        self._messages = [f"say: {TASK_LINE}{task}"] if task else []

    def act(self, observation: str) -> str:
        return self._messages.pop() if self._messages else WAIT


class WorkerExpert:
    """ALFWorld's `SearchExpert` for one of several workers; without a task in its opening it waits to be told one.

    It takes in only what its own commands led to; of messages it reads the first that holds a task. If the house
    differs from its memory, because another agent was there, it looks again. The workers share the search: each of n
    first looks into every n-th place of the search order.

    Args:
        opening: its first observation.
        rng, noise: as for `SearchExpert`.
        seat, num_workers: which of the workers it is, from 0.
    Raises:
        DataError: the opening holds a task of an unknown kind.
    """

    def __init__(
        self, opening: str, rng: np.random.Generator, noise: float = 0.0, seat: int = 0, num_workers: int = 1
    ) -> None:
        self._room, _ = speech.read(opening)
        self._rng, self._noise = rng, noise
        self._seat, self._num_workers = seat, num_workers
        self._command = ""
        self._expert = self._briefed(self._room) if TASK_LINE in self._room else None

    def act(self, observation: str) -> str:
        feedback, messages = speech.read(observation)
        if self._expert is None:
            self._expert = self._told([message for _, message in messages])
            if self._expert is None:
                return LOOK
        elif feedback == NOTHING_HAPPENS and self._num_workers > 1:
            self._forget(self._expert)
        self._command = self._expert.act(feedback)
        return self._command

    def _briefed(self, opening: str) -> SearchExpert:
        expert = SearchExpert(opening, self._rng, self._noise)
        order = expert.search_order
        mine = order[self._seat :: self._num_workers]
        expert.search_order = [*mine, *(name for name in order if name not in mine)]
        return expert

    def _told(self, messages: Sequence[str]) -> SearchExpert | None:
        """Return the player of the first message that holds a known task."""
        for message in messages:
            sentence = message.rpartition(TASK_LINE)[2].strip()
            try:
                read_task(sentence)
            except DataError:
                continue
            return self._briefed(f"{self._room}\n\n{TASK_LINE}{sentence}")
        return None

    def _forget(self, expert: SearchExpert) -> None:
        """The last command did nothing: do not believe what it relied on."""
        memory = expert.memory
        if not self._command.startswith("go to "):
            memory.seen.pop(memory.here, None)
            memory.closed.discard(memory.here)
            place = self._command.rpartition(" from ")[2].rpartition(" to ")[2].removeprefix("open ")
            memory.seen.pop(place, None)
            memory.closed.discard(place)
