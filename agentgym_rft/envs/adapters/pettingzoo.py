"""Adapts any PettingZoo environment to text, with a renderer that the user writes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.env import AECEnv, ParallelEnv

from agentgym_rft.envs.adapters.seeded_games import SeededGame, match_outcome
from agentgym_rft.envs.adapters.seeds import MAX_STEPS
from agentgym_rft.envs.multi_agent import TextAECEnv
from agentgym_rft.errors import ConfigError, EnvError

_LONGEST_ECHO = 80


class Renderer(ABC):
    """Puts an environment into words and reads actions from words.

    `env` is the one that was given to `PettingZooText`.
    """

    @abstractmethod
    def observe(self, env: Any, agent: str) -> str:
        """Return what an agent reads before its turn, and once more when it is out."""

    @abstractmethod
    def parse(self, env: Any, agent: str, text: str) -> Any | None:
        """Return the action of the environment that a text means; None if it means none that is legal now."""

    @abstractmethod
    def legal(self, env: Any, agent: str) -> list[str]:
        """Return texts that `parse` reads as the legal actions of the agent whose turn it is; may be empty."""

    def outcome(self, env: Any, agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
        """Return whether an agent that is out won, and its score in [0, 1]; `returns` are the sums of all agents'
        rewards.
        """
        return match_outcome(agent, returns)


class TextRenderer(Renderer):
    """For environments that are text already: observations and actions are passed on as they are."""

    def observe(self, env: Any, agent: str) -> str:
        return str(env.observe(agent))

    def parse(self, env: Any, agent: str, text: str) -> Any | None:
        return text

    def legal(self, env: Any, agent: str) -> list[str]:
        return list(env.infos.get(agent, {}).get("admissible_actions", ()))


class PettingZooText(SeededGame):
    """An AEC environment, or a parallel one through PettingZoo's own conversion, in the words of a renderer.

    An agent reads `renderer.observe` when its turn comes. A text that means no legal action is answered with the legal
    ones, and the agent acts again; after `retries` such answers in a row it forfeits, by the rule of PettingZoo's
    `TerminateIllegalWrapper`: the episode is over for all and the agent has lost. `forfeit_rewards` are what it and
    what each of the others gets then. The end of an agent counts as termination, also where the environment cut it
    short; only `max_steps` truncates.

    Args:
        env: an environment that `reset` gives the same agents each time.
        renderer: its words.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many turns, all agents' together, with those that were refused.
        retries: how often in a row a refused agent may try again.
        forfeit_rewards: of the agent that forfeits, and of each other one.
        arguments: what `env` was made with, if that changes its tasks: it is part of their content.
    Raises:
        ConfigError: `env` is no PettingZoo environment, or names no `possible_agents`.
    """

    snapshot_kind: ClassVar[str] = "pettingzoo-0"

    def __init__(
        self,
        env: Any,
        renderer: Renderer,
        *,
        split: str = "train",
        max_steps: int = MAX_STEPS,
        retries: int = 1,
        forfeit_rewards: tuple[float, float] = (-1.0, 0.0),
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.game = _as_aec(env)
        self._renderer, self._retries, self._forfeit_rewards = renderer, retries, forfeit_rewards
        named = [str(env.unwrapped), type(renderer).__name__, retries, forfeit_rewards, dict(arguments or {})]
        content = json.dumps(named, sort_keys=True, default=repr)
        super().__init__(str(env.unwrapped), content, self.game.possible_agents, split, max_steps)
        self._num_refused = 0
        self._out: set[str] = set()
        self._is_closed = False

    def close(self) -> None:
        super().close()
        if not self._is_closed:
            self._is_closed = True
            self.game.close()

    def _open(self, seed: int) -> str:
        self.game.reset(seed=seed)
        if set(self.game.agents) != set(self.possible_agents):
            raise EnvError(f"{self._name} starts with {self.game.agents}, expected all of {self.possible_agents}.")
        self._num_refused, self._out = 0, set()
        return self._turn_of(str(self.game.agent_selection))

    def _play(self, agent: str, action: str) -> str | None:
        game = self.game
        parsed = self._renderer.parse(game, agent, action)
        if parsed is None:
            return self._refused(agent, action)
        self._num_refused = 0
        game.step(parsed)
        for seat, reward in game.rewards.items():
            self.give(str(seat), float(reward))
        for seat in self.possible_agents:
            is_out = seat not in game.agents or game.terminations[seat] or game.truncations[seat]
            if is_out and seat not in self._out:
                self._out.add(seat)
                self.leave(seat)
                self.tell(seat, self._text(seat))
        while game.agents and (game.terminations[game.agent_selection] or game.truncations[game.agent_selection]):
            game.step(None)
        return self._turn_of(str(game.agent_selection)) if game.agents else None

    def _refused(self, agent: str, action: str) -> str | None:
        self.refuse(agent)
        self._num_refused += 1
        said = action[:_LONGEST_ECHO].encode("utf-8", "replace").decode()
        if self._num_refused <= self._retries:
            legal = self._legal(agent)
            self.tell(agent, f"{said!r} is not legal." + (f" Legal: {', '.join(legal)}." if legal else ""))
            return agent
        for seat in self.possible_agents:
            if seat not in self._out:
                self.give(seat, self._forfeit_rewards[seat != agent])
                self.tell(seat, f"{agent} forfeits: {said!r} is not legal.")
        self.forfeit(agent)
        return None

    def _turn_of(self, agent: str) -> str:
        """Return the agent, after it was told what it sees. Raises `EnvError` for one that joined later."""
        if agent not in self.possible_agents:
            raise EnvError(f"{self._name} gives the turn to '{agent}', who is not in {self.possible_agents}.")
        self.tell(agent, self._text(agent))
        return agent

    def _text(self, agent: str) -> str:
        return self._renderer.observe(self.game, agent).encode("utf-8", "replace").decode()

    def _legal(self, agent: str) -> list[str]:
        return self._renderer.legal(self.game, agent)

    def _result(self, agent: str, returns: Mapping[str, float]) -> tuple[bool, float]:
        return self._renderer.outcome(self.game, agent, returns)


def text_game(env: object, id: str, arguments: Mapping[str, Any]) -> TextAECEnv | None:
    """Return a PettingZoo environment whose spaces are all text, in an adapter if need be; None for anything else.

    Raises:
        ConfigError: a space is not text, so that a renderer is needed.
    """
    if isinstance(env, TextAECEnv) or not isinstance(env, (AECEnv, ParallelEnv)):
        return env if isinstance(env, TextAECEnv) else None
    game = _as_aec(env)
    for agent in game.possible_agents:
        for name, space in (
            ("observation_space", game.observation_space(agent)),
            ("action_space", game.action_space(agent)),
        ):
            if not isinstance(space, spaces.Text):
                raise ConfigError(
                    f"Environment '{id}' has {name} {space!r} for '{agent}', expected text: put it into words with "
                    "agentgym_rft.envs.adapters.pettingzoo.PettingZooText(env, renderer); see docs/multi_agent.md."
                )
    return PettingZooText(game, TextRenderer(), arguments=arguments)


def _as_aec(env: Any) -> Any:
    if isinstance(env, ParallelEnv):
        env = parallel_to_aec(env)
    if not isinstance(env, AECEnv):
        raise ConfigError(f"A {type(env).__name__} is no PettingZoo environment; expected an AECEnv or a ParallelEnv.")
    if not getattr(env, "possible_agents", None):  # of another library, where it may be missing
        raise ConfigError(f"{env.unwrapped} names no possible_agents, which its seats would be.")
    return env
