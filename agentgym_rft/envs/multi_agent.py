"""The contract of environments with several agents: PettingZoo's AEC with text on both sides, plus tasks and snapshots.

One agent acts at a time (`agent_selection`). What an agent observes is everything that it was told since it last acted,
so each agent has a conversation of its own. `TurnsEnv` in `turns.py` shows such an environment as one stream of turns,
which is how it is played.
"""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo.utils.env import AECEnv

from agentgym_rft.envs.base import AnyText, Expert, Theory
from agentgym_rft.envs.task_selection import check_split, chosen_task, drawn_task, read_snapshot
from agentgym_rft.errors import EnvError

_SNAPSHOT_KEYS = {
    "env",
    "options",
    "task_id",
    "state",
    "inbox",
    "num_steps",
    "agents",
    "selected",
    "waiting",
    "books",
    "rng",
}


class TextAECEnv(AECEnv[str, str, str]):
    """Base of text environments for several agents.

    `infos[agent]` has the keys of `TextEnv`: `task_id`, `won`, `score` in [0, 1], `state_key`, `invalid_action` (of the
    agent's own last action), and optionally `admissible_actions`, `task_type`, `goal`. `won` of all agents is the
    success of a team. An invalid action is answered by the rules of the environment, never by an exception.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "name": "text", "is_parallelizable": False}
    can_snapshot: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
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
        """What an agent is here: agents of one role are given the same card and policy. Default: each is its own."""
        return agent

    def task_ids(self, split: str) -> Sequence[str]:
        """Task ids of a split, in frozen order. Raises `DataError` for an unknown split."""
        raise NotImplementedError

    def task_content(self, task_id: str) -> bytes:
        """Canonical content of a task: what its content hash is taken of."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """The state of the running episode; `restore` of it continues bit by bit."""
        raise EnvError(f"{type(self).__name__} cannot snapshot; use reset and replay instead.")

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot, of this or another instance."""
        raise EnvError(f"{type(self).__name__} cannot restore; use reset and replay instead.")

    def act(self, agent: str, action: str) -> None:
        """`step` for one who says who is acting. Raises `EnvError` for an agent that speaks out of turn."""
        if agent != self.agent_selection:
            raise EnvError(f"'{agent}' speaks out of turn: it is the turn of '{self.agent_selection}'.")
        self.step(action)

    def noop(self, agent: str) -> str:
        """An action that changes as little as possible: what counterfactual credit puts in the place of a turn."""
        raise EnvError(f"{type(self).__name__} has no action that does nothing.")

    def remaining(self) -> int | None:
        """The fewest further turns, all agents' together, that win for all; None where it cannot tell."""
        return None

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """A player of one seat, which began with `observation` and knows only what it observes."""
        raise EnvError(f"{type(self).__name__} has no scripted expert.")

    def oracle(self, agent: str) -> Expert:
        """A player of one seat that goes on from the current state and knows everything."""
        raise EnvError(f"{type(self).__name__} has no oracle.")

    def random_player(self, agent: str, rng: np.random.Generator) -> Expert | None:
        """A player of one seat that acts at random; None: anyone picks among `admissible_actions`."""
        return None

    def theory(self) -> Theory | None:
        """What is known exactly about the game, if it is small enough for that."""
        return None


class TeamTaskEnv(TextAECEnv):
    """What environments with a list of tasks share: AEC's books, mail between agents, the limit of turns, snapshots.

    A subclass writes the abstract methods. Within `_begin` and `_act` it calls `tell` for what an agent is to read,
    `give` for rewards and `leave` for an agent that is out before the others.

    Args:
        agents: names of the seats, in the order of play.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many turns, all agents' together.
        options: what defines the tasks; a snapshot is refused where they differ.
    """

    can_snapshot: ClassVar[bool] = True
    snapshot_kind: ClassVar[str]  # name and version of the snapshots

    def __init__(
        self,
        agents: Sequence[str],
        split: str,
        max_steps: int,
        options: Mapping[str, Any],
        render_mode: str | None = None,
    ) -> None:
        super().__init__()
        self.check_split(split)
        self.render_mode = render_mode
        self.possible_agents = list(agents)
        self.agents = []
        self._split = split
        self._max_steps = max_steps
        self._options = dict(options)
        self._task_id = ""
        self._num_steps = 0
        self._inbox: dict[str, list[str]] = {}
        self._skip_agent_selection: str | None = None  # AEC's: who is next once those that are out took their steps
        self._invalid: dict[str, bool] = {}
        self._rng: np.random.Generator = seeding.np_random(None)[0]

    @abstractmethod
    def _begin(self, task_id: str) -> str:
        """Load a task and tell each agent what it is. Returns who acts first. Raises `DataError` for an unknown one."""

    @abstractmethod
    def _act(self, agent: str, action: str) -> str | None:
        """Answer the action of an agent, by telling. Returns who acts next; None if the episode is over.

        Where the action broke the rules, call `refuse(agent)`.
        """

    @abstractmethod
    def _facts(self, agent: str) -> dict[str, Any]:
        """`won`, `score`, `state_key` and the optional keys of an agent's info; `state_key` tells whose turn it is."""

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """What changes within an episode, as JSON values."""

    @abstractmethod
    def _resume(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_saved` gave; the task is loaded already. Any LookupError, TypeError or ValueError means
        that it is damaged.
        """

    @classmethod
    def check_split(cls, split: str) -> None:
        """Raises `DataError` for a name that is no split."""
        check_split(split, cls.splits)

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
        task_id = chosen_task(options, lambda: drawn_task(self.task_ids(self._split), self._rng))
        self.agents = []  # until the task is loaded
        self._open_books(task_id)
        first = self._begin(task_id)
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
        if not isinstance(action, str):
            raise EnvError(f"An action is text, not a {type(action).__name__}.")
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
        """What the agent was told since it last acted."""
        return "\n".join(self._inbox.get(agent, ()))

    def render(self) -> str | None:
        """What the agent whose turn it is reads, in render mode `ansi`."""
        return self.observe(self.agent_selection) if self.render_mode == "ansi" and self.agents else None

    def close(self) -> None:
        self.agents = []

    def snapshot(self) -> bytes:
        if not self._task_id:
            raise EnvError("There is no episode to take a snapshot of; call reset first.")
        saved = {
            "env": self.snapshot_kind,
            "options": self._options,
            "task_id": self._task_id,
            "state": self._saved(),
            "inbox": self._inbox,
            "num_steps": self._num_steps,
            "agents": self.agents,
            "selected": self.agent_selection,
            "waiting": self._skip_agent_selection,
            "books": [self.terminations, self.truncations, self.rewards, self._cumulative_rewards, self._invalid],
            "rng": self._rng.bit_generator.state,
        }
        return json.dumps(saved, separators=(",", ":")).encode()

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot. Raises `EnvError` if it is damaged, of another environment or of other options."""
        saved = read_snapshot(snapshot, self.snapshot_kind, _SNAPSHOT_KEYS, self._options)
        self.agents = []  # until all is restored
        try:
            self._open_books(saved["task_id"])
            self._begin(saved["task_id"])
            self._resume(saved["state"])
            self._inbox = {agent: list(texts) for agent, texts in saved["inbox"].items()}
            self._rng.bit_generator.state = saved["rng"]
            books = [dict(book) for book in saved["books"]]
            self.terminations, self.truncations, self.rewards, self._cumulative_rewards, self._invalid = books
        except (LookupError, TypeError, ValueError) as error:  # a DataError is a ValueError
            raise EnvError(f"The snapshot is damaged ({error}); take a new one.") from error
        self._num_steps = saved["num_steps"]
        self.agents, self._skip_agent_selection = list(saved["agents"]), saved["waiting"]
        self.agent_selection = saved["waiting"] or saved["selected"]  # infos are of before those that are out step
        self._inform()
        self.agent_selection = saved["selected"]

    def _open_books(self, task_id: str) -> None:
        seats = self.possible_agents
        self._task_id, self._num_steps, self._skip_agent_selection = task_id, 0, None
        self._inbox = {agent: [] for agent in seats}
        self.rewards, self._cumulative_rewards = dict.fromkeys(seats, 0.0), dict.fromkeys(seats, 0.0)
        self.terminations, self.truncations = dict.fromkeys(seats, False), dict.fromkeys(seats, False)
        self._invalid = dict.fromkeys(seats, False)
        self.infos = {agent: {} for agent in seats}

    def _inform(self) -> None:
        self.infos = {
            agent: {"task_id": self._task_id, **self._facts(agent), "invalid_action": self._invalid[agent]}
            for agent in self.agents
        }
