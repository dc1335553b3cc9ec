"""The contract of every environment: gymnasium's five-tuple with text on both sides."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from agentgym_rft.errors import EnvError

SPLITS = ("train", "valid_seen", "valid_unseen")
TRAIN_AND_TEST = ("train", "test")


class AnyText(spaces.Text):
    """Text of any characters up to a length.

    gymnasium's `Text` has a finite character set; a language model can write anything, so membership here is only
    "a str of at most `max_length` characters". Samples are printable ASCII.
    """

    def __init__(self, max_length: int = 1_000_000, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length=max_length, min_length=0, charset=string.printable, seed=seed)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyText) and other.max_length == self.max_length

    def __repr__(self) -> str:
        return f"AnyText({self.max_length})"


class Expert(Protocol):
    """A scripted player of one episode, for demonstrations and baselines."""

    def act(self, observation: str) -> str:
        """Return the action that answers an observation."""
        ...


class RandomActions:
    """A player that does any of the actions that are listed at its turn, each as likely."""

    def __init__(self, listed: Callable[[], Sequence[str]], rng: np.random.Generator) -> None:
        self._listed, self._rng = listed, rng

    def act(self, observation: str) -> str:
        """Return the action that answers an observation."""
        actions = self._listed()
        return actions[int(self._rng.integers(len(actions)))]


@dataclass(frozen=True, slots=True)
class Lesson:
    """The lesson of an episode: what happened, which turn was wrong, what to do instead. Turns are cited as `[5]`."""

    summary: str
    cause: str
    suggestion: str


@dataclass(frozen=True, slots=True)
class InformationSet:
    """A player's knowledge at one of its turns, and a way to get there; for games that can list all of these.

    `actions` are those of all players that lead there in task `task_id`; the player is the one whose turn it is then.
    `choices` has the replies that mean each action. Other replies may be possible and are not counted.
    """

    name: str
    task_id: str
    actions: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]


Strategy = Mapping[str, Mapping[str, float]]  # information set -> action -> its probability


class Theory(Protocol):
    """Exact values of a game that is small enough to be solved."""

    def information_sets(self) -> Sequence[InformationSet]:
        """Return all of them, of all seats."""
        ...

    def of_script(self, kind: str) -> Strategy | None:
        """Return the strategy of `oracle`, `expert` or `random`; None if it depends on more than the information
        set.
        """
        ...

    def analyse(self, strategy: Strategy) -> Mapping[str, float]:
        """Return named numbers about a strategy of all seats, such as its exploitability."""
        ...


class TextTasks:
    """Base of all environments, of one agent or several: tasks in splits, snapshots, exact values of small games."""

    can_snapshot: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = TRAIN_AND_TEST  # first the one to train on, last the one to report

    def task_ids(self, split: str) -> Sequence[str]:
        """Return the task ids of a split, in the frozen order of its panel. Raises `DataError` for an unknown split."""
        raise NotImplementedError

    def task_content(self, task_id: str) -> bytes:
        """Return the canonical content of a task: what its content hash is taken of."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """Return the state of the running episode; `restore` of it continues bit by bit."""
        raise EnvError(f"{type(self).__name__} cannot snapshot; use reset and replay instead.")

    def restore(self, snapshot: bytes) -> Any:
        """Continue from a snapshot, of this or another instance."""
        raise EnvError(f"{type(self).__name__} cannot restore; use reset and replay instead.")

    def remaining(self) -> int | None:
        """Return the smallest number of actions, of all agents together, that wins from the current state.

        0 after a win, None if it is not known. The call must not change the episode. Hindsight uses the number; no
        agent ever sees it.
        """
        return None

    def theory(self) -> Theory | None:
        """Return the exact values of the game, if it is small enough to be solved."""
        return None


class TextEnv(TextTasks, gym.Env[str, str]):
    """Base of text environments.

    `info` keys with fixed meaning: `task_id`, `won` (bool), `score` in [0, 1], `admissible_actions` (list, optional),
    `state_key` (equal state <=> equal key), `invalid_action` (bool), `task_type` (optional, for tables by type),
    `measures` (optional: numbers by name that are reported with the score).
    `reset(options={"task_id": ...})` selects a task; without it a task of the split is drawn with the env's own RNG.
    A step after the end raises `EnvError`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    has_lessons: ClassVar[bool] = False
    splits: ClassVar[tuple[str, ...]] = SPLITS
    seats: Mapping[str, str] = MappingProxyType({})  # the roles of the agents, where there are several (`TurnsEnv`)
    observation_space: spaces.Space[str] = AnyText()
    action_space: spaces.Space[str] = AnyText(10_000)

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        """Continue from a snapshot, of this or another instance. Returns the observation and info at that point."""
        raise EnvError(f"{type(self).__name__} cannot restore; use reset and replay instead.")

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Return a player for the episode that began with `observation`, which knows only what it observes.

        At rate `noise` it does something else that is plausible, and recovers.
        """
        raise EnvError(f"{type(self).__name__} has no scripted expert.")

    def oracle(self) -> Expert:
        """Return a player that goes on from the current state and knows everything: what bounds a score from above."""
        raise EnvError(f"{type(self).__name__} has no oracle.")

    def random_player(self, rng: np.random.Generator) -> Expert | None:
        """Return a player that acts at random from the current state: the baseline from below.

        None: anyone picks among `info["admissible_actions"]`. For environments that list none, or not all.
        """
        return None

    def seat_player(self, kind: str, agent: str, observation: str, rng: np.random.Generator) -> Expert | None:
        """Return the scripted player `oracle`, `expert` or `random` of one of `seats`; None as `random_player` says
        it.
        """
        raise EnvError(f"{type(self).__name__} has one agent, and no seat '{agent}'.")

    def noop(self, agent: str) -> str:
        """Return an action of one of `seats` that changes as little as possible."""
        raise EnvError(f"{type(self).__name__} has one agent, and no seat '{agent}'.")

    def lesson(self, observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
        """Return the lesson about turn `pivot` (None: about the start), in words that the player has read.

        `observation` began the episode; `steps` are (action, observation it led to), with "" for a reply without one.
        A function of its arguments alone: it needs no episode. Only where `has_lessons`.
        """
        raise EnvError(f"{type(self).__name__} has no lessons.")

    def quiz(
        self, observation: str, steps: Sequence[tuple[str, str]], rng: np.random.Generator, number: int
    ) -> list[tuple[str, str]]:
        """Return random questions about an episode and their answers, in the words of lessons; may be none.

        They train what a lesson needs: to find things again in a long transcript.
        """
        return []

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> Expert:
        """Return a player that goes on after the `steps` of somebody else and follows the suggestion of a `lesson`."""
        raise EnvError(f"{type(self).__name__} has no expert that goes on after somebody else.")


class AwaitableEnv(TextEnv):
    """An environment in another process. Its calls can also be awaited, so that many run at the same time."""

    async def ask(self, name: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call the method `name` and return its result; `timeout_s` is a deadline.

        All arguments are positional: `ask("reset", seed, options)`. `ask("act", player, observation)` asks a player
        that another call gave, such as `ask("oracle")`.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """Close the environment without waiting, even in the middle of a call."""
        raise NotImplementedError
