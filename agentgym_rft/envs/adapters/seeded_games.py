"""Base of adapters of other libraries' games: a task is a seed, and a snapshot is the log of the actions so far."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.errors import DataError

MAX_STEPS = 1000
SEEDS = {"train": range(10_000), "test": range(10_000, 11_000)}
_TASK_ID = re.compile(r"seed-(0|[1-9][0-9]{0,8})")


def seed_ids(split: str, name: str) -> list[str]:
    """The task ids `seed-0`, `seed-1`, ... of a split. Raises `DataError` for an unknown split."""
    if split not in SEEDS:
        raise DataError(f"{name} has no split '{split}'; expected one of {', '.join(SEEDS)}.")
    return [f"seed-{seed}" for seed in SEEDS[split]]


def seed_of(task_id: str) -> int:
    """The seed that a task id names. Raises `DataError` for any other text."""
    match = _TASK_ID.fullmatch(task_id)
    if match is None or not any(int(match[1]) in seeds for seeds in SEEDS.values()):
        last = SEEDS["test"].stop - 1
        raise DataError(f"There is no task '{task_id}'; expected seed-0 to seed-{last}.")
    return int(match[1])


def match_outcome(agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
    """Whether an agent won a match, and its score, by the returns of all: 1 for a win, 0.5 for a draw, 0 for a loss.

    It won if its return is positive and nobody's is higher; otherwise the score is the return, cut to [-1, 1], as a
    share of that range, and below 1.
    """
    own = returns[agent]
    if own > 0 and own >= max(returns.values()):
        return True, 1.0
    return False, min((min(max(own, -1.0), 1.0) + 1) / 2, 0.99)


class SeededGame(TeamTaskEnv):
    """Base of adapters of games that another library plays.

    A task is the seed that the game is reset with. `snapshot` keeps the actions since then and `restore` plays them
    again, so it takes as long as the episode so far, and is exact where the game is deterministic given its seed.
    `state_key` is a hash of all actions, so equal keys mean equal states; the reverse is not known.

    Args:
        name: of the game, for errors.
        content: what identifies the game and its arguments; with the seed, it is the content of a task.
        agents, split, max_steps: those of `TeamTaskEnv`.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(SEEDS)

    def __init__(self, name: str, content: str, agents: Sequence[str], split: str, max_steps: int) -> None:
        super().__init__(agents, split, max_steps, {"game": content, "max_steps": max_steps})
        self._name, self._content = name, content
        self._log: list[str] = []
        self._returns: dict[str, float] = {}
        self._losers: set[str] = set()
        self._next: str | None = None
        self._history = hashlib.blake2b(digest_size=16)

    @abstractmethod
    def _open(self, seed: int) -> str:
        """Start the game. Returns who acts first."""

    @abstractmethod
    def _play(self, agent: str, action: str) -> str | None:
        """Pass an action on, and tell and give what follows. Returns who acts next; None if the game is over."""

    def _result(self, agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
        """Whether an agent won the game, which is over, and its score in [0, 1]."""
        return match_outcome(agent, returns)

    def _legal(self, agent: str) -> list[str] | None:
        """Return the legal actions of the agent whose turn it is; None where the game does not list them."""
        return None

    def forfeit(self, agent: str) -> None:
        """The agent has lost, whatever its return."""
        self._losers.add(agent)

    def task_ids(self, split: str) -> Sequence[str]:
        return seed_ids(split, self._name)

    def task_content(self, task_id: str) -> bytes:
        return f"{self._content} {seed_of(task_id)}".encode()

    def _begin(self, task_id: str) -> str:
        self._log, self._losers = [], set()
        self._returns = dict.fromkeys(self.possible_agents, 0.0)
        self._history = hashlib.blake2b(self.task_content(task_id), digest_size=16)
        self._next = first = self._open(seed_of(task_id))
        return first

    def _act(self, agent: str, action: str) -> str | None:
        self._log.append(action)
        data = action.encode("utf-8", "surrogatepass")
        self._history.update(len(data).to_bytes(8, "little") + data)
        self._next = self._play(agent, action)
        for seat, reward in self.rewards.items():
            self._returns[seat] += reward
        return self._next

    def _facts(self, agent: str) -> dict[str, Any]:
        is_over = self._next is None or self.truncations[agent] or self.terminations[agent]
        won, score = self._result(agent, self._returns) if is_over else (False, 0.0)
        if agent in self._losers:
            won, score = False, 0.0
        facts: dict[str, Any] = {"won": won, "score": score, "state_key": self._history.hexdigest()}
        is_acting = agent == self.agent_selection and not is_over
        actions = self._legal(agent) if is_acting else []
        return facts if actions is None else {**facts, "admissible_actions": actions}

    def _saved(self) -> dict[str, Any]:
        return {"actions": self._log}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        for action in saved["actions"]:
            if self._next is None or not isinstance(action, str):
                raise ValueError("its actions do not fit the game")
            self._clear_rewards()
            self._act(self._next, action)
