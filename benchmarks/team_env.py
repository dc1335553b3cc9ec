"""Environments of one agent and of any number, with nothing to compute, for the overhead of playing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.envs.multi_agent import TeamTaskEnv


class IdleTeam(TeamTaskEnv):
    """Everybody acts in turn, and reads how often it did; any text is an action."""

    metadata: ClassVar[dict[str, Any]] = {"name": "idle_team_v0", "render_modes": ["ansi"], "is_parallelizable": False}
    snapshot_kind: ClassVar[str] = "idle-team-0"

    def __init__(self, num_agents: int = 2, max_steps: int = 200) -> None:
        super().__init__([f"agent_{number}" for number in range(num_agents)], "train", max_steps, {"num": num_agents})
        self._num_acted = 0

    def role(self, agent: str) -> str:
        return "agent"

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return [split]

    def task_content(self, task_id: str) -> bytes:
        return task_id.encode()

    def random_player(self, agent: str, rng: np.random.Generator) -> Expert:
        return _Looks()

    def _begin(self, task_id: str) -> str:
        self._num_acted = 0
        for agent in self.possible_agents:
            self.tell(agent, "You are in the middle of a room.")
        return self.possible_agents[0]

    def _act(self, agent: str, action: str) -> str:
        self._num_acted += 1
        self.tell(agent, f"You see a door, {self._num_acted % 10}.")
        return self.possible_agents[self._num_acted % len(self.possible_agents)]

    def _facts(self, agent: str) -> dict[str, Any]:
        return {"won": False, "score": 0.0, "state_key": str(self._num_acted)}

    def _saved(self) -> dict[str, Any]:
        return {"acted": self._num_acted}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self._num_acted = int(saved["acted"])


class IdleRoom(TextEnv):
    """The same for one agent that is not named, and without the books of a team."""

    def __init__(self, max_steps: int = 200) -> None:
        self._max_steps, self._num_acted = max_steps, 0

    def task_ids(self, split: str) -> Sequence[str]:
        return [split]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._num_acted = 0
        return "You are in the middle of a room.", self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._num_acted += 1
        is_over = self._num_acted >= self._max_steps
        return f"You see a door, {self._num_acted % 10}.", 0.0, False, is_over, self._info()

    def random_player(self, rng: np.random.Generator) -> Expert:
        return _Looks()

    def _info(self) -> dict[str, Any]:
        return {"task_id": "train", "won": False, "score": 0.0, "state_key": str(self._num_acted)}


class _Looks:
    def act(self, observation: str) -> str:
        return "look"
