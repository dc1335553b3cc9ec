"""The contract of environments with several agents: PettingZoo's AEC with text on both sides, plus tasks and snapshots.

One agent acts at a time (`agent_selection`). What an agent observes is everything that it was told since it last acted,
so each agent has a conversation of its own. `TurnsEnv` in `turns.py` shows such an environment as one stream of turns,
which is how it is played.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo.utils.env import AECEnv

from agentgym_rft.envs.base import AnyText, Expert, TextTasks
from agentgym_rft.envs.task_selection import ListedTasks, text_action
from agentgym_rft.errors import EnvError


class TextAECEnv(TextTasks, AECEnv[str, str, str]):
    """Base of text environments for several agents.

    `infos[agent]` has the keys of `TextEnv`: `task_id`, `won`, `score` in [0, 1], `state_key`, `invalid_action` (of the
    agent's own last action), and optionally `admissible_actions`, `task_type`, `goal`. `won` of all agents is the
    success of a team. An invalid action is answered by the rules of the environment, never by an exception.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "name": "text", "is_parallelizable": False}
    render_mode: str | None = None
    possible_agents: list[str]
    agents: list[str]
    agent_selection: str
    terminations: dict[str, bool]
    truncations: dict[str, bool]
    rewards: dict[str, float]
    infos: dict[str, dict[str, Any]]
    _cumulative_rewards: dict[str, float]

    @property
    def rng(self) -> np.random.Generator | None:
        """The generator that `reset` draws tasks with; None where it is not shown."""
        return None

    def observation_space(self, agent: str) -> spaces.Space[str]:
        return self._spaces[agent][0]

    def action_space(self, agent: str) -> spaces.Space[str]:
        return self._spaces[agent][1]

    @functools.cached_property
    def _spaces(self) -> dict[str, tuple[AnyText, AnyText]]:
        """Each agent's spaces of observations and actions. No two share one, as PettingZoo seeds and samples them."""
        return {agent: (AnyText(), AnyText(10_000)) for agent in self.possible_agents}

    def role(self, agent: str) -> str:
        """Return what an agent is here: agents of one role are given the same card and policy.
        Default: each is its own.
        """
        return agent

    def act(self, agent: str, action: str) -> None:
        """`step` for one who says who is acting. Raises `EnvError` for an agent that speaks out of turn."""
        if agent != self.agent_selection:
            raise EnvError(f"'{agent}' speaks out of turn: it is the turn of '{self.agent_selection}'.")
        self.step(action)

    def noop(self, agent: str) -> str:
        """Return an action that changes as little as possible: what counterfactual credit puts in the place of a
        turn.
        """
        raise EnvError(f"{type(self).__name__} has no action that does nothing.")

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Return a player of one seat, which began with `observation` and knows only what it observes."""
        raise EnvError(f"{type(self).__name__} has no scripted expert.")

    def oracle(self, agent: str) -> Expert:
        """Return a player of one seat that goes on from the current state and knows everything."""
        raise EnvError(f"{type(self).__name__} has no oracle.")

    def random_player(self, agent: str, rng: np.random.Generator) -> Expert | None:
        """Return a player of one seat that acts at random; None: anyone picks among `admissible_actions`."""
        return None


class TeamTaskEnv(ListedTasks, TextAECEnv):
    """Base of environments of several agents with a list of tasks: AEC's books and mail between agents.

    A subclass writes `_begin`, `_act`, `_facts`, `_saved` and `_resume`. Within `_begin` and `_act` it calls `tell` for
    what an agent is to read, `give` for rewards and `leave` for an agent that is out before the others. `agents` are
    the names of the seats, in the order of play; `ListedTasks` says what the other arguments mean.
    """

    _book_keys = ("inbox", "num_steps", "agents", "selected", "waiting", "books")

    def __init__(
        self,
        agents: Sequence[str],
        split: str,
        max_steps: int,
        options: Mapping[str, Any],
        render_mode: str | None = None,
    ) -> None:
        super().__init__(split, max_steps, render_mode, options)
        self.possible_agents = list(agents)
        self.agents = []
        self._inbox: dict[str, list[str]] = {}
        self._skip_agent_selection: str | None = None  # AEC's: who is next once those that are out took their steps
        self._invalid: dict[str, bool] = {}
        self._rng: np.random.Generator = seeding.np_random(None)[0]

    @abstractmethod
    def _act(self, agent: str, action: str) -> str | None:
        """Answer the action of an agent, by telling. Returns who acts next; None if the episode is over.

        Where the action broke the rules, call `refuse(agent)`.
        """

    @abstractmethod
    def _facts(self, agent: str) -> dict[str, Any]:
        """Return `won`, `score`, `state_key` and the optional keys of an agent's info.

        `state_key` tells whose turn it is.
        """

    @property
    def rng(self) -> np.random.Generator:
        """The random numbers of the episode."""
        return self._rng

    def tell(self, agent: str, text: str) -> None:
        """Let an agent read a text before its next action."""
        self._inbox[agent].append(text)

    def give(self, agent: str, reward: float) -> None:
        """Reward an agent for this step, whoever acts in it."""
        self.rewards[agent] += reward

    def refuse(self, agent: str) -> None:
        """The action that is being answered broke the rules."""
        self._invalid[agent] = True

    def leave(self, agent: str) -> None:
        """The agent is out; the others go on."""
        self.terminations[agent] = True

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin `options["task_id"]`, else a task drawn from the split. Others are ignored, as PettingZoo asks."""
        if seed is not None:
            self._rng = seeding.np_random(seed)[0]
        first = self._open_task(self._choose_task(options))
        self.agents = list(self.possible_agents)
        self.agent_selection = first
        self._inform()

    def step(self, action: str | None) -> None:  # None is AEC's step of an agent that is out
        if not self.agents:
            raise EnvError("There is no running episode; call reset before step.")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        action = text_action(action)
        self._inbox[agent] = []
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._invalid[agent] = False
        following = self._act(agent, action)
        self._num_steps += 1
        if following is None:
            self.terminations = dict.fromkeys(self.agents, True)
        elif self._num_steps >= self._max_steps:
            self.truncations = {name: not self.terminations[name] for name in self.agents}
        else:
            self.agent_selection = following
        self._accumulate_rewards()
        self._inform()
        self._deads_step_first()

    def observe(self, agent: str) -> str:
        """Return what the agent was told since it last acted."""
        return "\n".join(self._inbox.get(agent, ()))

    def render(self) -> str | None:
        """Return what the agent whose turn it is reads, in render mode `ansi`."""
        return self.observe(self.agent_selection) if self.render_mode == "ansi" and self.agents else None

    def close(self) -> None:
        self.agents = []

    def _own_generator(self) -> np.random.Generator:
        return self._rng

    def _clear_books(self) -> None:
        seats = self.possible_agents
        self.agents, self._skip_agent_selection = [], None
        self._inbox = {agent: [] for agent in seats}
        self.rewards, self._cumulative_rewards = dict.fromkeys(seats, 0.0), dict.fromkeys(seats, 0.0)
        self.terminations, self.truncations = dict.fromkeys(seats, False), dict.fromkeys(seats, False)
        self._invalid = dict.fromkeys(seats, False)
        self.infos = {agent: {} for agent in seats}

    def _books(self) -> dict[str, Any]:
        return {
            "inbox": self._inbox,
            "num_steps": self._num_steps,
            "agents": self.agents,
            "selected": self.agent_selection,
            "waiting": self._skip_agent_selection,
            "books": [self.terminations, self.truncations, self.rewards, self._cumulative_rewards, self._invalid],
        }

    def _take_books(self, saved: Mapping[str, Any]) -> None:
        self._inbox = {agent: list(texts) for agent, texts in saved["inbox"].items()}
        books = [dict(book) for book in saved["books"]]
        self.terminations, self.truncations, self.rewards, self._cumulative_rewards, self._invalid = books
        self._num_steps = saved["num_steps"]
        self.agents, self._skip_agent_selection = list(saved["agents"]), saved["waiting"]
        self.agent_selection = saved["waiting"] or saved["selected"]  # infos are of before those that are out step
        self._inform()
        self.agent_selection = saved["selected"]

    def _inform(self) -> None:
        self.infos = {
            agent: {"task_id": self._task_id, **self._facts(agent), "invalid_action": self._invalid[agent]}
            for agent in self.agents
        }
