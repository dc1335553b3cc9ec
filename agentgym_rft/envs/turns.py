"""Shows an environment with several agents as one stream of turns, so that code for a `TextEnv` can play it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from agentgym_rft.envs.base import Expert, TextEnv, Theory
from agentgym_rft.envs.task_selection import check_reset_options
from agentgym_rft.envs.values import as_number, as_won
from agentgym_rft.errors import EnvError

if TYPE_CHECKING:
    from agentgym_rft.envs.multi_agent import TextAECEnv

Standing = dict[str, Any]


class TurnsEnv(TextEnv):
    """Each `step` is the turn of the agent that `info["agent"]` named before it; the observation is for the next one.

    `info` is that of the agent whose turn comes next (of the one that acted last, once all is over), with

    - `agent`: whose turn it is, "" at the end; `agents`: all seats with their roles;
    - `rewards`: what each agent got in this step; the step's own reward is their mean;
    - `outcomes`: for each agent `won`, `score`, and `is_over` once it is out (`is_truncated`: cut off), with its last
      observation as `final`;
    - `invalid_action`: whether the action just taken broke the rules;
    - `won`: every agent won; `score`: the mean of the agents' scores.

    Args:
        env: the environment of several agents; it belongs to this one from now on.
        spec: gymnasium's, of the id that it was made by, if any.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}

    def __init__(self, env: TextAECEnv, spec: Any = None) -> None:
        self.env, self.spec = env, spec
        self.splits = env.splits  # type: ignore[misc]  # those of the environment inside
        self.can_snapshot = env.can_snapshot  # type: ignore[misc]
        self.seats = {agent: env.role(agent) for agent in env.possible_agents}
        self.render_mode = env.render_mode
        self._standings: dict[str, Standing] = {}
        self._last: tuple[str, dict[str, float], bool] = ("", {}, False)  # what the last info was made of

    @property
    def acting(self) -> str:
        """The agent whose turn it is; "" while no episode runs."""
        return str(self.env.agent_selection) if self.env.agents else ""

    @property
    def np_random(self) -> np.random.Generator:
        """The generator of the environment inside, which a copy in another process goes on with."""
        rng = self.env.rng
        own: np.random.Generator = super().np_random
        return own if rng is None else rng

    def task_ids(self, split: str) -> Sequence[str]:
        return self.env.task_ids(split)

    def task_content(self, task_id: str) -> bytes:
        return self.env.task_content(task_id)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._standings = {}
        check_reset_options(options)
        self.env.reset(seed=seed, options=options)
        self._note_standings()
        return self.env.observe(self._selected()), self._info(self._selected(), {}, is_invalid=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        env = self.env
        if not env.agents:
            raise EnvError("There is no running episode; call reset before step.")
        actor = env.agent_selection
        env.step(action)
        rewards = {agent: as_number("reward", reward) for agent, reward in env.rewards.items()}
        is_invalid = bool(env.infos.get(actor, {}).get("invalid_action", False))
        is_out = [env.terminations[agent] or env.truncations[agent] for agent in env.agents]
        is_truncated = all(is_out) and any(env.truncations.values())
        self._note_standings()
        self._show_out()
        terminated, truncated = not env.agents and not is_truncated, is_truncated
        if env.agents:
            agent = self._selected()
            observation = env.observe(agent)
        else:
            agent, observation = actor, str(self._standings[actor]["final"])
        reward = _mean(list(rewards.values()))
        return observation, reward, terminated, truncated, self._info(agent, rewards, is_invalid=is_invalid)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def snapshot(self) -> bytes:
        """Return the inner environment's snapshot, with the outcomes of agents that are out and the last step."""
        kept = {
            "game": self.env.snapshot().decode("latin-1"),
            "out": {agent: standing for agent, standing in self._standings.items() if standing["is_over"]},
            "last": self._last,
        }
        return json.dumps(kept, separators=(",", ":"), default=str).encode()

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        try:
            kept = json.loads(snapshot)
            game, out = kept["game"].encode("latin-1"), dict(kept["out"])
            agent, rewards, is_invalid = kept["last"]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise EnvError("The snapshot is damaged, or not one of a stream of turns; take a new one.") from error
        self.env.restore(game)
        self._standings = {name: out.get(name, {}) for name in self.seats}
        self._note_standings()
        observation = self.env.observe(agent) if self.env.agents else str(self._standings[agent]["final"])
        return observation, self._info(agent, rewards, is_invalid=is_invalid)

    def remaining(self) -> int | None:
        return self.env.remaining()

    def oracle(self) -> Expert:
        """Return a player that knows everything, for whoever's turn it is."""
        return _EverySeat(self, "", lambda agent, observation: self.env.oracle(agent))

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Return the experts of all seats, each made at its first turn."""
        return _EverySeat(self, observation, lambda agent, first: self.env.expert(agent, first, rng, noise))

    def random_player(self, rng: np.random.Generator) -> Expert | None:
        if self.env.random_player(self._selected(), rng) is None:
            return None
        return _EverySeat(self, "", lambda agent, observation: _there(self.env.random_player(agent, rng)))

    def seat_player(self, kind: str, agent: str, observation: str, rng: np.random.Generator) -> Expert | None:
        if kind == "oracle":
            return self.env.oracle(agent)
        if kind == "expert":
            return self.env.expert(agent, observation, rng)
        return self.env.random_player(agent, rng)

    def noop(self, agent: str) -> str:
        return self.env.noop(agent)

    def theory(self) -> Theory | None:
        return self.env.theory()

    def _selected(self) -> str:
        """Return the agent whose turn it is. Raises `EnvError` if the environment names none that plays."""
        agent = self.env.agent_selection
        if agent not in self.env.agents:
            raise EnvError(f"The environment gives the turn to {agent!r}, who does not play; it has {self.env.agents}.")
        return str(agent)

    def _show_out(self) -> None:
        """Take the steps of those who are out, which AEC asks for, until it is the turn of one who plays."""
        env = self.env
        for _ in range(len(env.possible_agents)):
            if not env.agents or not (env.terminations[self._selected()] or env.truncations[self._selected()]):
                return
            env.step(None)

    def _note_standings(self) -> None:
        env = self.env
        for agent in env.agents:
            info = env.infos[agent]
            is_over = bool(env.terminations[agent] or env.truncations[agent])
            self._standings[agent] = {
                "won": as_won(info.get("won", False)),
                "score": float(info.get("score", 0.0)),
                "is_over": is_over,
                "is_truncated": bool(env.truncations[agent]),
                "final": env.observe(agent) if is_over else "",
                "info": info,
            }

    def _info(self, agent: str, rewards: dict[str, float], *, is_invalid: bool) -> dict[str, Any]:
        outcomes = self._standings
        self._last = (agent, rewards, is_invalid)
        return {
            **{
                key: list(value) if isinstance(value, list) else value for key, value in outcomes[agent]["info"].items()
            },
            "agent": self.acting,
            "agents": dict(self.seats),
            "rewards": dict(rewards),
            "outcomes": {name: {key: s[key] for key in s if key != "info"} for name, s in outcomes.items()},
            "invalid_action": is_invalid,
            "won": all(standing["won"] for standing in outcomes.values()),
            "score": _mean([standing["score"] for standing in outcomes.values()]),
        }


class _EverySeat:
    """One player for all agents: at each turn it asks the player of the agent whose turn it is.

    The first agent's player is made at once, so that an environment without players raises an error early.
    """

    def __init__(self, env: TurnsEnv, observation: str, make: Callable[[str, str], Expert]) -> None:
        self._env, self._make = env, make
        self._players = {env.acting: make(env.acting, observation)}

    def act(self, observation: str) -> str:
        agent = self._env.acting
        if agent not in self._players:
            self._players[agent] = self._make(agent, observation)
        return self._players[agent].act(observation)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _there(player: Expert | None) -> Expert:
    if player is None:
        raise EnvError("This seat has no random player.")
    return player
