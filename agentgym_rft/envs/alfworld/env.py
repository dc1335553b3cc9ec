"""The ALFWorld environment: household tasks in text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.expert import SearchExpert
from agentgym_rft.envs.alfworld.lesson import lesson, quiz
from agentgym_rft.envs.alfworld.oracle import Oracle, distance
from agentgym_rft.envs.alfworld.pddl import task_text
from agentgym_rft.envs.alfworld.rules import NOTHING_HAPPENS
from agentgym_rft.envs.alfworld.tasks import check_split, compiled, task_source
from agentgym_rft.envs.alfworld.textworld_backend import RealWorld
from agentgym_rft.envs.base import Lesson, TextEnv
from agentgym_rft.errors import ConfigError, EnvError, UnsupportedGameError, did_you_mean

BACKENDS = ("engine", "textworld")
_UNKNOWN_TYPE = "other"


class Household(Protocol):
    """What the environment needs of an engine."""

    def observation(self) -> str: ...
    def step(self, command: str) -> str: ...
    def admissible(self) -> list[str]: ...
    @property
    def won(self) -> bool: ...
    def state_key(self) -> str: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...


class RandomCommands:
    """Any admissible command, each as likely."""

    def __init__(self, world: Household, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng

    def act(self, observation: str) -> str:
        commands = self._world.admissible()
        return commands[int(self._rng.integers(len(commands)))]


class ALFWorldEnv(TextEnv):
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

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    can_snapshot: ClassVar[bool] = True
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
        check_split(split)
        if max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 1.")
        if backend not in BACKENDS:
            raise ConfigError(f"There is no backend '{backend}'.{did_you_mean(backend, BACKENDS)}")
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"There is no render mode '{render_mode}'; expected 'ansi' or none.")
        self.render_mode = render_mode
        self._source = task_source(data)
        self._split = split
        self._max_steps = max_steps
        self._backend = backend
        self._show_admissible = admissible
        self._world: Household | None = None
        self._real: RealWorld | None = None
        self._task_id = self._goal = self._task_type = ""
        self._observation = ""
        self._num_steps = 0
        self._is_over = True
        self._is_invalid = False

    def task_ids(self, split: str) -> Sequence[str]:
        return self._source.task_ids(split)

    def task_content(self, task_id: str) -> bytes:
        if self._backend == "engine":
            return self._source.game(task_id).content()  # refuses a game that this engine does not know
        return self._source.content(task_id)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin `options["task_id"]`, else a task drawn from the split. Returns the intro with the task, and info."""
        super().reset(seed=seed)
        unknown = set(options or ()) - {"task_id"}
        if unknown:
            raise EnvError(f"reset does not know the option '{unknown.pop()}'; expected 'task_id'.")
        task_id = (options or {}).get("task_id")
        if task_id is None:
            ids = self._source.task_ids(self._split)
            task_id = ids[int(self.np_random.integers(len(ids)))]
        if not isinstance(task_id, str):
            raise EnvError(f"A task_id is text, not a {type(task_id).__name__}.")
        world = self._load(task_id)
        self._observation = world.observation()
        self._num_steps = 0
        self._is_over = self._is_invalid = False
        return self._observation, self._info(world)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        world = self._world
        if world is None or self._is_over:
            raise EnvError("There is no running episode; call reset before step.")
        if not isinstance(action, str):
            raise EnvError(f"An action is text, not a {type(action).__name__}.")
        self._observation = world.step(action)
        self._is_invalid = self._observation == NOTHING_HAPPENS
        self._num_steps += 1
        won = world.won
        truncated = not won and self._num_steps >= self._max_steps
        self._is_over = won or truncated
        return self._observation, float(won), won, truncated, self._info(world)

    def render(self) -> str | None:
        """The last observation in render mode `ansi`."""
        return self._observation if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._world = self._real = None
        self._is_over = True

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> SearchExpert:
        return SearchExpert(observation, rng, noise)

    def oracle(self) -> Oracle:
        """Plays shortest plans. Raises `EnvError` with the real engine, or while no episode runs."""
        if not isinstance(self._world, World):
            raise EnvError("The oracle plans with the own engine, in a running episode: backend='engine', then reset.")
        return Oracle(self._world)

    def random_player(self, rng: np.random.Generator) -> RandomCommands:
        """Picks among the admissible commands, also where `info` does not list them."""
        if self._world is None:
            raise EnvError("There is no running episode; call reset first.")
        return RandomCommands(self._world, rng)

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
        """The length of the oracle's plan. None with the real engine, and where only slicing would win."""
        return distance(self._world) if isinstance(self._world, World) else None

    def snapshot(self) -> bytes:
        """The whole state of the episode, RNG included; any instance with the same data and backend restores it."""
        if self._world is None:
            raise EnvError("There is no episode to take a snapshot of; call reset first.")
        saved = {
            "backend": self._backend,
            "task_id": self._task_id,
            "world": self._world.snapshot().decode(),
            "observation": self._observation,
            "num_steps": self._num_steps,
            "is_over": self._is_over,
            "is_invalid": self._is_invalid,
            "rng": self.np_random.bit_generator.state,
        }
        return json.dumps(saved, separators=(",", ":")).encode()

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        """Continue from a snapshot. Returns the observation and info at that point.

        Raises `EnvError` if the snapshot is damaged, of the other backend or of a game that has changed since.
        """
        saved = _read_snapshot(snapshot)
        if saved["backend"] != self._backend:
            raise EnvError(f"The snapshot is of backend '{saved['backend']}', this environment has '{self._backend}'.")
        world = self._load(saved["task_id"])
        world.restore(saved["world"].encode())
        self._observation = saved["observation"]
        self._num_steps = saved["num_steps"]
        self._is_over, self._is_invalid = saved["is_over"], saved["is_invalid"]
        self.np_random.bit_generator.state = saved["rng"]
        return self._observation, self._info(world)

    def _load(self, task_id: str) -> Household:
        """Make a fresh world of the task the current one. Until the caller says otherwise no episode runs."""
        self._is_over = True
        world: Household
        if self._backend == "engine":
            game = compiled(self._source, task_id)
            world = World(game)
            self._goal, self._task_type = game.task, game.win.kind.value
        else:
            world, self._goal, self._task_type = self._load_real(task_id)
        self._world, self._task_id = world, task_id
        return world

    def _load_real(self, task_id: str) -> tuple[Household, str, str]:
        """The task in the real engine, its goal and its type. The engine is kept from task to task."""
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

    def _info(self, world: Household) -> dict[str, Any]:
        won = world.won
        info: dict[str, Any] = {
            "task_id": self._task_id,
            "won": won,
            "score": float(won),
            "state_key": world.state_key(),
            "invalid_action": self._is_invalid,
            "task_type": self._task_type,
            "goal": self._goal,
        }
        if self._show_admissible:
            info["admissible_actions"] = world.admissible()
        return info


def _read_snapshot(snapshot: bytes) -> dict[str, Any]:
    keys = {"backend", "task_id", "world", "observation", "num_steps", "is_over", "is_invalid", "rng"}
    try:
        saved = json.loads(snapshot)
    except ValueError as error:
        raise EnvError("The snapshot is damaged; take a new one.") from error
    if not isinstance(saved, dict) or saved.keys() != keys:
        raise EnvError("The snapshot is not one of ALFWorld; restore it in the kind of environment that made it.")
    return saved
