"""A tiny environment of two agents, for the policy of `tests.light_switch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.base import Expert
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from tests.light_switch import COLOURS, RandomColours


class TeamSwitch(TeamTaskEnv):
    """Each agent acts twice; the team wins if all four actions are red. Each red is worth 0.25 to who said it.

    `fault`: `step` raises in the second turn of b; `leave` takes b out of the episode after its first turn; `stranger`
    gives a turn to nobody; `won` is a word, and `score` beyond one for a as it is below zero for b, in its second turn.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "team_switch_v0",
        "render_modes": ["ansi"],
        "is_parallelizable": False,
    }
    snapshot_kind: ClassVar[str] = "team-switch-0"
    splits: ClassVar[tuple[str, ...]] = ("train", "valid_seen", "valid_unseen")

    def __init__(self, split: str = "train", max_steps: int = 9, fault: str = "") -> None:
        super().__init__(["a", "b"], split, max_steps, {"fault": fault})
        self._fault = fault
        self._said: list[str] = []

    def role(self, agent: str) -> str:
        return "switcher"

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        start = 30 * self.splits.index(split)
        return [str(number) for number in range(start, start + 30)]

    def task_content(self, task_id: str) -> bytes:
        return task_id.encode()

    def noop(self, agent: str) -> str:
        return "wait"

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        return RandomColours(rng)

    def oracle(self, agent: str) -> Expert:
        return _AlwaysRed()

    def random_player(self, agent: str, rng: np.random.Generator) -> Expert:
        return RandomColours(rng)

    def remaining(self) -> int | None:
        return max(4 - len(self._said), 0)

    def _begin(self, task_id: str) -> str:
        self._said = []
        for agent in self.possible_agents:
            self.tell(agent, self._room())
        return "a"

    def _act(self, agent: str, action: str) -> str | None:
        if self._fault == "step" and len(self._said) == 3:
            raise ZeroDivisionError("the switch broke")
        self._said.append(action)
        if action not in COLOURS:
            self.refuse(agent)
        if action == COLOURS[0]:
            self.give(agent, 0.25)
        other = "b" if agent == "a" else "a"
        self.tell(agent, self._room())
        if self._fault == "stranger" and len(self._said) == 2:
            return "nobody"
        if self._fault == "leave" and agent == "b":
            self.leave("b")
        if self.terminations.get("b", True):
            return "a" if len(self._said) < 4 else None
        return other if len(self._said) < 4 else None

    def _room(self) -> str:
        return f"Task {self._task_id}, {max(2 - len(self._said) // 2, 0)} turns left."

    def _facts(self, agent: str) -> dict[str, Any]:
        num_red = self._said.count(COLOURS[0])
        if self._fault == "won" and len(self._said) == 3:
            return {"won": "no", "score": 0.0}
        if self._fault == "score" and len(self._said) == 3:
            return {"won": False, "score": 1.5 if agent == "a" else -0.5}
        return {"won": num_red == 4, "score": num_red / 4, "state_key": f"{self.agent_selection}{self._said}"}

    def _saved(self) -> dict[str, Any]:
        return {"said": self._said}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self._said = list(saved["said"])


class _AlwaysRed:
    def act(self, observation: str) -> str:
        return COLOURS[0]
