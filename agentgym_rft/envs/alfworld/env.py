"""The ALFWorld environment: household tasks in text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.expert import SearchExpert
from agentgym_rft.envs.alfworld.lesson import lesson, quiz
from agentgym_rft.envs.alfworld.oracle import Oracle, distance
from agentgym_rft.envs.alfworld.pddl import task_text
from agentgym_rft.envs.alfworld.rules import NOTHING_HAPPENS
from agentgym_rft.envs.alfworld.tasks import compiled, task_source
from agentgym_rft.envs.alfworld.textworld_backend import RealWorld
from agentgym_rft.envs.base import SPLITS, Lesson, RandomActions
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.errors import ConfigError, EnvError, UnsupportedGameError, did_you_mean

BACKENDS = ("engine", "textworld")
_UNKNOWN_TYPE = "other"


class Household(Protocol):
    """The interface of an engine."""

    def observation(self) -> str: ...
    def step(self, command: str) -> str: ...
    def admissible(self) -> list[str]: ...
    @property
    def won(self) -> bool: ...
    def state_key(self) -> str: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...


class ALFWorldEnv(TaskEnv):
    """Household tasks: find, clean, heat, cool, light and place things. Reward 1 on winning, else 0.

    Args:
        data: folder in ALFWorld's layout (`alfworld-download`); without it the one that ALFWORLD_DATA names, else
            generated games. Official games that are not marked solvable are left out, as in alfworld's loader.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        backend: `engine` is our own, byte-identical and fast; `textworld` is the real one (extra `alfworld`).
        admissible: give the commands that can be obeyed as `info["admissible_actions"]`.
    Raises:
        DataError: the folder is missing or not in the layout, or the split is unknown.
        ConfigError: another argument is wrong.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    snapshot_kind: ClassVar[str] = "alfworld-2"
    has_lessons: ClassVar[bool] = True

    def __init__(
        self,
        data: str | None = None,
        split: str = "train",
        max_steps: int = 50,
        backend: Literal["engine", "textworld"] = "engine",
        admissible: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ConfigError(f"There is no backend '{backend}'.{did_you_mean(backend, BACKENDS)}")
        super().__init__(split, max_steps, render_mode, {"backend": backend})
        self._source = task_source(data)
        self._backend = backend
        self._show_admissible = admissible
        self._world: Household | None = None
        self._real: RealWorld | None = None
        self._goal = self._task_type = ""

    def task_ids(self, split: str) -> Sequence[str]:
        return self._source.task_ids(split)

    def task_content(self, task_id: str) -> bytes:
        if self._backend == "engine":
            return self._source.game(task_id).content()  # refuses a game that this engine does not know
        return self._source.content(task_id)

    def close(self) -> None:
        super().close()
        self._world = self._real = None

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> SearchExpert:
        return SearchExpert(observation, rng, noise)

    def oracle(self) -> Oracle:
        """Play shortest plans. Raises `EnvError` with the real engine, or while no episode runs."""
        if not isinstance(self._world, World):
            raise EnvError("The oracle plans with the own engine, in a running episode: backend='engine', then reset.")
        return Oracle(self._world)

    def random_player(self, rng: np.random.Generator) -> RandomActions:
        """Pick among the admissible commands, also where `info` does not list them."""
        return RandomActions(self._running().admissible, rng)

    def lesson(self, observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
        return lesson(observation, steps, pivot)

    def quiz(
        self, observation: str, steps: Sequence[tuple[str, str]], rng: np.random.Generator, number: int
    ) -> list[tuple[str, str]]:
        return quiz(observation, steps, rng, number)

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> SearchExpert:
        expert = SearchExpert(observation)
        expert.resume(steps)
        expert.heed(suggestion)
        return expert

    def remaining(self) -> int | None:
        """Return the length of the oracle's plan. None with the real engine, and where only slicing would win."""
        return distance(self._world) if isinstance(self._world, World) else None

    def _begin(self, task_id: str) -> str:
        if self._backend == "engine":
            game = compiled(self._source, task_id)
            self._world, self._goal, self._task_type = World(game), game.task, game.win.kind.value
        else:
            self._world, self._goal, self._task_type = self._load_real(task_id)
        return self._world.observation()

    def _load_real(self, task_id: str) -> tuple[Household, str, str]:
        """Return the task in the real engine, its goal and its type. The engine is kept from task to task."""
        document = self._source.document(task_id)
        try:
            task_type = self._source.game(task_id).goal.task_type.value
        except UnsupportedGameError:
            task_type = _UNKNOWN_TYPE
        if self._real is None:
            self._real = RealWorld(document)
        else:
            self._real.load(document)
        return self._real, task_text(document["grammar"], task_id), task_type

    def _act(self, action: str) -> Outcome:
        world = self._running()
        observation = world.step(action)
        return Outcome(observation, float(world.won), world.won, observation == NOTHING_HAPPENS)

    def _facts(self) -> dict[str, Any]:
        world = self._running()
        won = world.won
        facts: dict[str, Any] = {
            "won": won,
            "score": float(won),
            "state_key": world.state_key(),
            "task_type": self._task_type,
            "goal": self._goal,
        }
        if self._show_admissible:
            facts["admissible_actions"] = world.admissible()
        return facts

    def _saved(self) -> dict[str, Any]:
        return {"world": self._running().snapshot().decode()}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self._running().restore(saved["world"].encode())

    def _running(self) -> Household:
        if self._world is None:
            raise EnvError("There is no episode; call reset first.")
        return self._world
