"""Base of adapters of other libraries' games: a task is a seed, and a snapshot is the log of the actions so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.envs.adapters.seeds import SeedTasks, seed_of
from agentgym_rft.envs.multi_agent import TeamTaskEnv


def match_outcome(agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
    """Return whether an agent won a match, and its score, by the returns of all: 1 for a win, 0.5 for a draw, 0 for a
    loss.

    It won if its return is positive and nobody's is higher; otherwise the score is the return, cut to [-1, 1], as a
    share of that range, and below 1.
    """
    own = returns[agent]
    if own > 0 and own >= max(returns.values()):
        return True, 1.0
    return False, min((min(max(own, -1.0), 1.0) + 1) / 2, 0.99)


class SeededGame(SeedTasks, TeamTaskEnv):
    """Base of adapters of games that another library plays.

    A task is the seed that the game is reset with. `snapshot` keeps the actions since then and `restore` plays them
    again, so it takes as long as the episode so far, and is exact where the game is deterministic given its seed.

    Args:
        name: of the game, for errors.
        content: what identifies the game and its arguments; with the seed, it is the content of a task.
        agents, split, max_steps: those of `TeamTaskEnv`.
    """

    def __init__(self, name: str, content: str, agents: Sequence[str], split: str, max_steps: int) -> None:
        super().__init__(agents, split, max_steps, {"game": content, "max_steps": max_steps})
        self.name_tasks(name, content)
        self._log: list[str] = []
        self._returns: dict[str, float] = {}
        self._losers: set[str] = set()
        self._next: str | None = None

    @abstractmethod
    def _open(self, seed: int) -> str:
        """Start the game. Returns who acts first."""

    @abstractmethod
    def _play(self, agent: str, action: str) -> str | None:
        """Pass an action on, and tell and give what follows. Returns who acts next; None if the game is over."""

    def _result(self, agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
        """Return whether an agent won the game, which is over, and its score in [0, 1]."""
        return match_outcome(agent, returns)

    def _legal(self, agent: str) -> list[str] | None:
        """Return the legal actions of the agent whose turn it is; None where the game does not list them."""
        return None

    def forfeit(self, agent: str) -> None:
        """The agent has lost, whatever its return."""
        self._losers.add(agent)

    def _begin(self, task_id: str) -> str:
        self._log, self._losers = [], set()
        self._returns = dict.fromkeys(self.possible_agents, 0.0)
        self._forget(task_id)
        self._next = first = self._open(seed_of(task_id))
        return first

    def _act(self, agent: str, action: str) -> str | None:
        self._log.append(action)
        self._remember(action)
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
