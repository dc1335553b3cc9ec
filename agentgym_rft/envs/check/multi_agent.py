"""Rules of the environment contract about several agents: PettingZoo's own tests, turns, seats, books."""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo.utils.wrappers import BaseWrapper

from agentgym_rft.envs.base import AnyText
from agentgym_rft.envs.check.subject import RandomActor, Subject, fail, frozen, is_number, require, short
from agentgym_rft.envs.multi_agent import TextAECEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import EnvError

_NUM_CYCLES = 60
_NUM_STEPS = 25
_NUM_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Books:
    """All that AEC shows of a point of an episode."""

    selected: str
    agents: tuple[str, ...]
    observations: dict[str, str]
    infos: dict[str, dict[str, Any]]
    rewards: dict[str, float]
    cumulative: dict[str, float]
    terminations: dict[str, bool]
    truncations: dict[str, bool]

    @classmethod
    def of(cls, env: TextAECEnv) -> Books:
        return cls(
            env.agent_selection if env.agents else "",
            tuple(env.agents),
            {agent: env.observe(agent) for agent in env.possible_agents},
            {agent: frozen(env.infos[agent]) for agent in env.agents},
            dict(env.rewards),
            dict(env._cumulative_rewards),
            dict(env.terminations),
            dict(env.truncations),
        )


def has_several_agents(subject: Subject) -> bool:
    """True if the environment is one of several agents, to which the rules here apply."""
    return isinstance(subject.make(), TurnsEnv)


def seats_read_and_write_text(subject: Subject) -> str:
    """Each agent's spaces are text, and what it observes is in its space."""
    env = _new(subject)
    for agent in env.possible_agents:
        for name, space in (
            ("observation_space", env.observation_space(agent)),
            ("action_space", env.action_space(agent)),
        ):
            require(isinstance(space, spaces.Text), f"{name} of '{agent}' is {space!r}, expected text.")
    for _ in _episodes(subject, env):
        for agent in env.agents:
            seen: Any = env.observe(agent)
            require(isinstance(seen, str), f"'{agent}' observes a {type(seen).__name__}, expected str.")
            is_inside = env.observation_space(agent).contains(seen)
            require(is_inside, f"what '{agent}' observes, of {len(seen)} characters, is not in its space.")
    return f"{len(env.possible_agents)} agents"


def passes_the_api_test_of_pettingzoo(subject: Subject) -> None:
    """PettingZoo's `api_test` passes."""
    from pettingzoo.test import api_test  # imports pytest and pygame where they are installed

    for seed in range(_NUM_SEEDS):
        env = _AsBytes(_new(subject), seed)
        _quietly("api_test", lambda env=env: api_test(env, num_cycles=_NUM_CYCLES))  # type: ignore[misc]


def passes_the_seed_test_of_pettingzoo(subject: Subject) -> None:
    """PettingZoo's `seed_test` passes."""
    from pettingzoo.test import seed_test

    _quietly("seed_test", lambda: seed_test(lambda: _AsBytes(_new(subject)), num_cycles=_NUM_CYCLES))


def turns_out_of_place_are_refused(subject: Subject) -> None:
    """`act` raises `EnvError` for an agent whose turn it is not, and changes nothing."""
    env = _new(subject)
    for _ in _episodes(subject, env):
        acting, before = env.agent_selection, _of_the_turn(env)
        for agent in env.possible_agents:
            if agent == acting:
                continue
            try:
                env.act(agent, "look")
            except EnvError:
                require(_of_the_turn(env) == before, f"the refused turn of '{agent}' changes the episode.")
                continue
            fail(f"'{agent}' may act in the turn of '{acting}', expected EnvError.")


def observing_changes_nothing(subject: Subject) -> None:
    """Who observes, how often and in which order, changes neither what it observes nor what another one does."""
    env = _new(subject)
    for _ in _episodes(subject, env):
        first = {agent: env.observe(agent) for agent in env.possible_agents}
        again = {agent: env.observe(agent) for agent in reversed(env.possible_agents)}
        for agent in first:
            require(first[agent] == again[agent], f"what '{agent}' observes changes when somebody observes.")


def snapshots_keep_the_books(subject: Subject) -> str:
    """A snapshot at any point, also where agents are out, keeps the turn, what all observe and their rewards."""
    env, other = _new(subject), _new(subject)
    if not env.can_snapshot:
        return "it has no snapshots"
    points = 0
    for _ in _episodes(subject, env, with_dead=True):
        before = Books.of(env)
        other.reset(seed=1, options={"task_id": subject.tasks()[-1]})
        other.restore(env.snapshot())
        _require_same(before, Books.of(other), "after restore")
        if env.agents and (env.terminations[before.selected] or env.truncations[before.selected]):
            env_next, other_next = _after_dead_step(env), _after_dead_step(other)
            _require_same(env_next, other_next, "after restore and the step of one that is out")
            env.restore(other.snapshot())
        points += 1
    return f"{points} points"


def rewards_are_finite_numbers(subject: Subject) -> None:
    """`rewards` has a finite number for each agent at every point, from `reset` on."""
    env = _new(subject)
    for _ in _episodes(subject, env, with_dead=True):
        for agent in env.agents:
            require(agent in env.rewards, f"rewards lacks '{agent}', who plays.")
        for agent, reward in env.rewards.items():
            require(is_number(reward), f"the reward of '{agent}' is {short(reward)}, expected a finite number.")


def agents_only_leave(subject: Subject) -> None:
    """`agents` holds `possible_agents` at first, and afterwards those of them that are left, in their order."""
    env = _new(subject)
    seats = list(env.possible_agents)
    require(len(set(seats)) == len(seats) > 0, f"possible_agents is {seats}, expected distinct names.")
    left = seats
    for step in _episodes(subject, env, with_dead=True):
        left = seats if step == 0 else [agent for agent in left if agent in env.agents]
        require(list(env.possible_agents) == seats, "possible_agents changes within an episode.")
        require(
            list(env.agents) == left, f"agents is {env.agents}, expected {left}: agents only leave, and keep order."
        )


def roles_are_stable(subject: Subject) -> str:
    """`role` is a text that does not change, neither within an episode nor between instances."""
    env = _new(subject)
    roles = {agent: env.role(agent) for agent in env.possible_agents}
    for agent, role in roles.items():
        require(isinstance(role, str) and bool(role), f"the role of '{agent}' is {short(role)}, expected a name.")
    for _ in _episodes(subject, env):
        for agent, role in roles.items():
            now = env.role(agent)
            require(now == role, f"the role of '{agent}' was '{role}' and is {now!r}; roles stay.")
    return ", ".join(dict.fromkeys(roles.values()))


def outcomes_have_scores(subject: Subject) -> None:
    """Each agent's own `won` is a bool and its `score` a number from 0 to 1."""
    env = _new(subject)
    for _ in _episodes(subject, env):
        for agent in env.agents:
            info = env.infos[agent]
            require(isinstance(info.get("won"), bool), f"'{agent}' has won = {short(info.get('won'))}, expected bool.")
            score = info.get("score")
            require(
                is_number(score) and 0 <= float(score or 0) <= 1,
                f"'{agent}' has score {short(score)}, expected a number from 0 to 1.",
            )


def every_seat_plays_the_same_again(subject: Subject) -> None:
    """Equal seeds and actions show every agent the same, also those whose turn it is not, in another instance."""
    env, other = _new(subject), _new(subject)
    for seed in range(_NUM_SEEDS):
        logs = [[Books.of(each) for _ in _episode(subject, each, seed)] for each in (env, other)]
        for before, after in zip(*logs, strict=True):
            _require_same(before, after, "in another instance with the same seed and actions")


MULTI_RULES: tuple[Callable[[Subject], str | None], ...] = (
    seats_read_and_write_text,
    rewards_are_finite_numbers,
    agents_only_leave,
    roles_are_stable,
    outcomes_have_scores,
    passes_the_api_test_of_pettingzoo,
    passes_the_seed_test_of_pettingzoo,
    turns_out_of_place_are_refused,
    observing_changes_nothing,
    every_seat_plays_the_same_again,
    snapshots_keep_the_books,
)


def _new(subject: Subject) -> TextAECEnv:
    env = subject.make()
    if not isinstance(env, TurnsEnv):
        fail(f"{type(env).__name__} has one agent; the rules about several do not apply.")
    return env.env


def _episodes(subject: Subject, env: TextAECEnv, *, with_dead: bool = False) -> Iterator[int]:
    for seed in range(_NUM_SEEDS):
        yield from _episode(subject, env, seed, with_dead=with_dead)


def _episode(subject: Subject, env: TextAECEnv, seed: int, *, with_dead: bool = False) -> Iterator[int]:
    """Each point of an episode of random turns: where an agent is to act and, if asked for, where one that is out is
    to step, and the end.
    """
    env.reset(seed=seed, options={"task_id": subject.tasks()[0]})
    actor = RandomActor(seed)
    for step in count():
        if not env.agents:
            break
        agent = env.agent_selection
        is_out = env.terminations[agent] or env.truncations[agent]
        if with_dead or not is_out:
            yield step
        if not env.agents or env.agent_selection != agent:
            continue  # whoever looked at this point has taken the step
        if step >= _NUM_STEPS and not is_out:
            return
        env.step(None if is_out else actor.choose(env.infos[agent]))
    if with_dead:
        yield -1


def _of_the_turn(env: TextAECEnv) -> tuple[object, ...]:
    """Whose turn it is, what that agent reads, and what all were given."""
    acting = env.agent_selection
    return acting, env.observe(acting), list(env.agents), dict(env.rewards), dict(env._cumulative_rewards)


def _after_dead_step(env: TextAECEnv) -> Books:
    env.step(None)
    return Books.of(env)


def _require_same(expected: Books, actual: Books, what: str) -> None:
    for name in Books.__slots__:
        left, right = getattr(expected, name), getattr(actual, name)
        is_same = left == right or repr(left) == repr(right)  # NaN equals nothing
        require(is_same, f"{name} differs {what}: {short(left)} against {short(right)}.")


def _quietly(name: str, test: Callable[[], object]) -> None:
    """Run a test of PettingZoo, which prints and warns. Its assertion becomes the sentence of the broken rule."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test()
    except AssertionError as error:
        fail(f"PettingZoo's {name} fails: {error}.")


class _AsBytes(BaseWrapper[str, Any, str]):
    """Shows observations as bytes of a fixed number, and draws actions that are likely to be legal.

    PettingZoo's `api_test` (1.27) asks every observation for its `dtype`, which text has not, and for equal shapes. So
    an observation is shown as its hash, which differs where the text does. Actions stay text: two of three are drawn
    from `admissible_actions`, so that episodes get somewhere. Spaces are an instance's own, since `seed_test` seeds
    those of two instances alike.
    """

    def __init__(self, env: TextAECEnv, seed: int = 0) -> None:
        super().__init__(env)
        self._box = spaces.Box(0, 255, (64,), np.uint8)
        self._actions = {agent: _LikelyText(env, agent, seed) for agent in env.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self._box

    def action_space(self, agent: str) -> spaces.Space[str]:
        return self._actions[agent]

    def observe(self, agent: str) -> Any:
        text = self.env.observe(agent)
        return np.frombuffer(hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest(), np.uint8)


class _LikelyText(AnyText):
    """Texts that an agent may well write."""

    def __init__(self, env: TextAECEnv, agent: str, seed: int) -> None:
        super().__init__(max_length=20, seed=seed)
        self._env, self._agent = env, agent

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        actions = self._env.infos.get(self._agent, {}).get("admissible_actions") or []
        if actions and self.np_random.integers(3):
            return str(actions[int(self.np_random.integers(len(actions)))])
        return str(super().sample())
