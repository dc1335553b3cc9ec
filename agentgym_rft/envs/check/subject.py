"""Helpers of the rules of `check_env`: instances of one environment, and episodes played with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.process_state import ProcessState, process_state
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import EnvContractError, EnvError, message_of

if TYPE_CHECKING:
    from agentgym_rft.envs.multi_agent import TextAECEnv

MAX_EPISODE_STEPS = 2000
NUM_STEPS = 20  # of a short episode
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
    before: ProcessState = field(default_factory=process_state)  # when the check began
    _opened: list[TextEnv] = field(default_factory=list)
    _tasks: list[str] = field(default_factory=list)

    def make(self) -> TextEnv:
        """Return a new instance, which `close_all` closes."""
        env = self.factory()
        self._opened.append(env)
        return env

    def new(self, task_id: str | None = None, seed: int = 0) -> tuple[TextEnv, Observed]:
        """Return a new instance at the start of a task (default: the first), and what reset gave."""
        env = self.make()
        return env, self.start(env, task_id, seed)

    def start(self, env: TextEnv, task_id: str | None = None, seed: int = 0) -> Observed:
        """Reset an instance to a task (default: the first)."""
        return Observed.from_reset(env, seed=seed, options={"task_id": task_id or self.tasks()[0]})

    def tasks(self) -> list[str]:
        """Return the first two tasks of the split; one if it has no more."""
        if not self._tasks:
            env = self.make()
            self._tasks = list(env.task_ids(self.split_of(env))[:2])
        return self._tasks

    def split_of(self, env: TextEnv) -> str:
        """Return the split that tasks are taken from."""
        return self.split or env.splits[0]

    def close_all(self) -> None:
        """Close what `make` has made. Raises the broken rule if that fails."""
        opened, self._opened = self._opened, []
        for env in opened:
            try:
                env.close()
            except Exception as error:  # any error here breaks the rule
                fail(f"close raises {raised(error)}.")


@dataclass(frozen=True, slots=True)
class Books:
    """All that AEC shows of a point of an episode of several agents, to those whose turn it is not as well."""

    selected: str
    agents: tuple[str, ...]
    observations: dict[str, str]
    infos: dict[str, dict[str, Any]]
    rewards: dict[str, float]
    cumulative: dict[str, float]
    terminations: dict[str, bool]
    truncations: dict[str, bool]

    @classmethod
    def of(cls, game: TextAECEnv) -> Books:
        return cls(
            game.agent_selection if game.agents else "",
            tuple(game.agents),
            {agent: game.observe(agent) for agent in game.possible_agents},
            {agent: frozen(game.infos[agent]) for agent in game.agents},
            dict(game.rewards),
            dict(game._cumulative_rewards),
            dict(game.terminations),
            dict(game.truncations),
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """The result of a reset or step; two are equal if the environment behaved equally.

    `books` are there for several agents.
    """

    observation: str
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    books: Books | None = None

    @classmethod
    def from_reset(cls, env: TextEnv, *, seed: int, options: dict[str, Any] | None = None) -> Observed:
        observation, info = env.reset(seed=seed, options=options)
        return cls(observation, frozen(info), books=books_of(env))

    @classmethod
    def from_step(cls, env: TextEnv, action: str) -> Observed:
        observation, reward, terminated, truncated, info = env.step(action)
        return cls(observation, frozen(info), reward, terminated, truncated, books_of(env))

    @classmethod
    def from_restore(cls, env: TextEnv, snapshot: bytes) -> Observed:
        observation, info = env.restore(snapshot)
        return cls(observation, frozen(info), books=books_of(env))

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated

    def as_restored(self) -> Observed:
        """Return what a restore to this point is to give."""
        return replace(self, reward=0.0, terminated=False, truncated=False)


def books_of(env: TextEnv) -> Books | None:
    """Return the books of an environment that shows several agents' turns as one stream; None for any other."""
    return Books.of(env.env) if isinstance(env, TurnsEnv) else None


def frozen(info: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `info` that later changes of its lists do not reach."""
    return {key: list(value) if isinstance(value, list) else value for key, value in info.items()}


class RandomActor:
    """Draws actions with a generator of its own: admissible ones where they are listed, else a few plain words."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def act(self, seen: Observed) -> str:
        """Return the next action."""
        return self.choose(seen.info)

    def choose(self, info: Mapping[str, Any]) -> str:
        """Return the next action after an info."""
        actions: Sequence[str] = info.get("admissible_actions") or _WORDS
        return self._random.choice(actions)


def walk(env: TextEnv, seen: Observed, actor: RandomActor, num_steps: int) -> Iterator[tuple[str, Observed]]:
    """Yield up to `num_steps` actions with what followed each; stops where the episode ends."""
    for _ in range(num_steps):
        if seen.is_over:
            return
        action = actor.act(seen)
        seen = Observed.from_step(env, action)
        yield action, seen


def play(env: TextEnv, seen: Observed, actor: RandomActor, num_steps: int) -> list[tuple[str, Observed]]:
    """Return up to `num_steps` actions with what followed each."""
    return list(walk(env, seen, actor, num_steps))


def record(env: TextEnv, start: Observed, seed: int, num_steps: int = NUM_STEPS) -> tuple[list[str], list[Observed]]:
    """Return up to `num_steps` random actions, and what was seen at each point: `start`, then what followed
    each.
    """
    log = play(env, start, RandomActor(seed), num_steps)
    return [action for action, _ in log], [start, *(seen for _, seen in log)]


def replay(env: TextEnv, actions: Iterable[str]) -> list[Observed]:
    """Play actions and return the result of each."""
    return [Observed.from_step(env, action) for action in actions]


def fail(sentence: str) -> NoReturn:
    """Raise the broken rule."""
    raise EnvContractError(sentence)


def raised(error: BaseException) -> str:
    """Return the type and the message of what an environment raised."""
    return f"{type(error).__name__}: {message_of(error)}"


def require(condition: bool, sentence: str) -> None:
    """Raise the broken rule unless the condition holds."""
    if not condition:
        fail(sentence)


def require_refused(
    call: Callable[[], object], what: str, accepted: type[Exception] = EnvError, shown: type[Exception] = EnvError
) -> None:
    """Raise the broken rule unless a call raises what is accepted; `shown` is what the sentence asks for."""
    try:
        call()
    except accepted:
        return
    except Exception as error:  # any other error breaks the rule
        fail(f"{what} raises {type(error).__name__}, expected {shown.__name__}.")
    fail(f"{what} is not refused, expected {shown.__name__}.")


def require_equal(expected: Sequence[Observed], actual: Sequence[Observed], what: str) -> None:
    """Raise `what`, followed by the first difference."""
    for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
        if left != right:
            fail(f"{what}: {difference(left, right)} at point {index} of the episode.")


def difference(left: Observed | Books, right: Observed | Books) -> str:
    """Return the first part in which two unequal outcomes of a kind differ, with both of its values."""
    name = next(each.name for each in fields(left) if getattr(left, each.name) != getattr(right, each.name))
    a, b = getattr(left, name), getattr(right, name)
    if isinstance(a, Books) and isinstance(b, Books):
        return difference(a, b)
    if name != "info":
        return f"{name} {short(a)} against {short(b)}"
    key = next(key for key in {**a, **b} if a.get(key) != b.get(key))
    return f"info['{key}'] {short(a.get(key))} against {short(b.get(key))}"


def short(value: object) -> str:
    """Return the start of a value's repr."""
    if isinstance(value, str) and len(value) > 80:
        value = value[:80]  # the repr of a long text takes long
        return f"{value!r:.77}..."
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: object) -> bool:
    """Return True for a finite int or float that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
