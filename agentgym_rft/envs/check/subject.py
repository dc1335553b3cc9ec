"""Helpers of the rules of `check_env`: instances of one environment, and episodes played with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import EnvContractError

MAX_EPISODE_STEPS = 2000
_WORDS = ("look", "inventory", "help", "wait", "up", "yes", "7", "42", "search[red]")


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """The extent of a check: episodes and instances for the leak rules, and limits in seconds."""

    num_episodes: int = 1000
    num_instances: int = 50
    timeout_s: float = 60.0  # of one rule, where the check runs in a process of its own
    max_step_s: float = 5.0  # mean time of a step

    @property
    def budget_s(self) -> float:
        """The longest time that a leak rule plays."""
        return self.timeout_s / 4


THOROUGH = CheckSettings()
QUICK = CheckSettings(num_episodes=50, num_instances=5)


@dataclass(frozen=True, slots=True)
class NamedEnv:
    """The name and options by which another process can make an environment."""

    id: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> TextEnv:
        return make_env(self.id, self.options)


@dataclass(slots=True)
class Subject:
    """The environment under test: makes instances of it, and names the split that tasks are taken from.

    Without a split, it is the environment's first. `is_fresh` is False where instances are copies of a used one.
    """

    factory: Callable[[], TextEnv]
    split: str = ""
    settings: CheckSettings = THOROUGH
    is_fresh: bool = True
    _opened: list[TextEnv] = field(default_factory=list)
    _tasks: list[str] = field(default_factory=list)

    def make(self) -> TextEnv:
        """A new instance, which `close_all` closes."""
        env = self.factory()
        self._opened.append(env)
        return env

    def new(self, task_id: str | None = None, seed: int = 0) -> tuple[TextEnv, Observed]:
        """A new instance at the start of a task (default: the first), and what reset gave."""
        env = self.make()
        return env, self.start(env, task_id, seed)

    def start(self, env: TextEnv, task_id: str | None = None, seed: int = 0) -> Observed:
        """Reset an instance to a task (default: the first)."""
        return Observed.from_reset(*env.reset(seed=seed, options={"task_id": task_id or self.tasks()[0]}))

    def tasks(self) -> list[str]:
        """The first two tasks of the split; one if it has no more."""
        if not self._tasks:
            env = self.make()
            self._tasks = list(env.task_ids(self.split_of(env))[:2])
        return self._tasks

    def split_of(self, env: TextEnv) -> str:
        """The split that tasks are taken from."""
        return self.split or env.splits[0]

    def close_all(self) -> None:
        """Close what `make` has made. Raises the broken rule if that fails."""
        opened, self._opened = self._opened, []
        for env in opened:
            try:
                env.close()
            except Exception as error:  # any error here breaks the rule
                fail(f"close raises {type(error).__name__}: {error}.")


@dataclass(frozen=True, slots=True)
class Observed:
    """The result of a reset or step; two are equal if the environment behaved equally."""

    observation: str
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @classmethod
    def from_reset(cls, observation: str, info: dict[str, Any]) -> Observed:
        return cls(observation, frozen(info))

    @classmethod
    def from_step(cls, env: TextEnv, action: str) -> Observed:
        observation, reward, terminated, truncated, info = env.step(action)
        return cls(observation, frozen(info), reward, terminated, truncated)

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated


def frozen(info: dict[str, Any]) -> dict[str, Any]:
    """A copy of `info` that later changes of its lists do not reach."""
    return {key: list(value) if isinstance(value, list) else value for key, value in info.items()}


class RandomActor:
    """Draws actions with a generator of its own: admissible ones where they are listed, else a few plain words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def act(self, seen: Observed) -> str:
        """The next action."""
        return self.choose(seen.info)

    def choose(self, info: Mapping[str, Any]) -> str:
        """The next action, after an info."""
        actions: Sequence[str] = info.get("admissible_actions") or _WORDS
        return self._random.choice(actions)


def play(env: TextEnv, seen: Observed, actor: RandomActor, num_steps: int) -> list[tuple[str, Observed]]:
    """Up to `num_steps` actions with what followed each; stops where the episode ends."""
    log: list[tuple[str, Observed]] = []
    while len(log) < num_steps and not seen.is_over:
        action = actor.act(seen)
        seen = Observed.from_step(env, action)
        log.append((action, seen))
    return log


def replay(env: TextEnv, actions: Iterable[str]) -> list[Observed]:
    """Play actions and return the result of each."""
    return [Observed.from_step(env, action) for action in actions]


def fail(sentence: str) -> NoReturn:
    """Raise the broken rule."""
    raise EnvContractError(sentence)


def require(condition: bool, sentence: str) -> None:
    """Raise the broken rule unless the condition holds."""
    if not condition:
        fail(sentence)


def require_equal(expected: Sequence[Observed], actual: Sequence[Observed], what: str) -> None:
    """Raise `what`, followed by the first difference."""
    for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
        if left != right:
            fail(f"{what}: {_difference(left, right)} at point {index} of the episode.")


def _difference(left: Observed, right: Observed) -> str:
    """The first part in which two unequal outcomes differ."""
    parts = {
        "observation": (left.observation, right.observation),
        "reward": (left.reward, right.reward),
        "terminated": (left.terminated, right.terminated),
        "truncated": (left.truncated, right.truncated),
    }
    for name, (a, b) in parts.items():
        if a != b:
            return f"{name} {short(a)} against {short(b)}"
    key = next(key for key in {**left.info, **right.info} if left.info.get(key) != right.info.get(key))
    return f"info['{key}'] {short(left.info.get(key))} against {short(right.info.get(key))}"


def short(value: object) -> str:
    """The start of a value's repr."""
    if isinstance(value, str) and len(value) > 80:
        value = value[:80]  # the repr of a long text takes long
        return f"{value!r:.77}..."
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: object) -> bool:
    """True for a finite int or float that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
