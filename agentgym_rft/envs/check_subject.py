"""What the rules of `check_env` look at: instances of one environment, and episodes played with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import EnvContractError

MAX_EPISODE_STEPS = 2000


@dataclass(frozen=True, slots=True)
class Subject:
    """The environment under test, as a way to make instances, and the split that tasks are taken from."""

    make: Callable[[], TextEnv]
    split: str

    def new(self, task_id: str | None = None, seed: int = 0) -> tuple[TextEnv, Observed]:
        """A new instance at the start of a task (default: the first), and what reset gave."""
        env = self.make()
        return env, Observed.from_reset(*env.reset(seed=seed, options={"task_id": task_id or self.tasks()[0]}))

    def tasks(self) -> list[str]:
        """The first two tasks of the split; one if it has no more."""
        return list(self.make().task_ids(self.split)[:2])


@dataclass(frozen=True, slots=True)
class Observed:
    """What one reset or step gave; equal if the environment behaved equally."""

    observation: str
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @classmethod
    def from_reset(cls, observation: str, info: dict[str, Any]) -> Observed:
        return cls(observation, _frozen(info))

    @classmethod
    def from_step(cls, env: TextEnv, action: str) -> Observed:
        observation, reward, terminated, truncated, info = env.step(action)
        return cls(observation, _frozen(info), reward, terminated, truncated)

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated


def _frozen(info: dict[str, Any]) -> dict[str, Any]:
    """A copy of `info` that later changes of its lists do not reach."""
    return {key: list(value) if isinstance(value, list) else value for key, value in info.items()}


class RandomActor:
    """Draws actions with a generator of its own: admissible ones where they are listed, else a few plain words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def act(self, seen: Observed) -> str:
        """The next action."""
        actions: list[str] = seen.info.get("admissible_actions") or ["look", "inventory", "help", "wait"]
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
    """What each action gave."""
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
            return f"{name} {_short(a)} against {_short(b)}"
    key = next(key for key in {**left.info, **right.info} if left.info.get(key) != right.info.get(key))
    return f"info['{key}'] {_short(left.info.get(key))} against {_short(right.info.get(key))}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: object) -> bool:
    """True for a finite int or float that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
