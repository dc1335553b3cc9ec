"""Runs any environment in a process of its own, so that crashes, leaks and hangs stay there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft import registry
from agentgym_rft.envs.base import AwaitableEnv, Expert, Lesson
from agentgym_rft.envs.process.child import PLAYERS, Request
from agentgym_rft.envs.process.pool import Processes, now
from agentgym_rft.envs.process.worker import Worker
from agentgym_rft.errors import ConfigError, EnvError

_IN_EPISODE = frozenset(("step", "snapshot", "remaining", "noop", *PLAYERS))  # calls that need a running episode


class ProcessEnv(AwaitableEnv):
    """An environment that runs in a process of its own and behaves like the one it hosts.

    For engines that are not thread-safe, or that leak, crash or hang. Errors of the environment are raised here: the
    package's own as they are, any other as an `EnvError` that names it. A call that takes too long or a process that
    dies raises once; the next `reset` starts another process. The state of the environment's random generator moves
    with it, so a seed gives the same episodes with and without processes.

    Args:
        id: a registered id, short name, or `module:Class`. The class has to be importable from its module.
        options: keyword arguments of the environment.
        timeout_s: deadline in seconds of each call, of making the environment too; None: no deadline.
        recycle_after: replace the process after so many resets, for engines whose memory grows; None: never.
        hash_seed: PYTHONHASHSEED of the process, for engines that depend on the order of sets; None: random.
        lazy: start the process when it is first needed, not at once. Wrong options are then refused only there.
        processes: share one of these with other environments instead of a process of its own. They then set the
            deadline, the recycling and the hash seed.
    Raises:
        ConfigError: an argument is wrong, or the environment does not take these options.
        RegistryError: there is no such environment.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        id: str,
        options: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        recycle_after: int | None = None,
        hash_seed: int | None = None,
        lazy: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self._processes = processes or Processes(timeout_s=timeout_s, recycle_after=recycle_after, hash_seed=hash_seed)
        self._path, self._options = _importable(id, options or {})
        self._rng_state: Mapping[str, Any] | None = None
        self._worker: Worker | None = None
        self.number = 0  # of the environment in its process
        if not lazy:
            now(self._ready(is_blocking=True))

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        return self._worker.pid if self._worker is not None and self._worker.is_alive else None

    def task_ids(self, split: str) -> Sequence[str]:
        ids: list[str] = self._ask("task_ids", split)
        return ids

    def task_content(self, task_id: str) -> bytes:
        content: bytes = self._ask("task_content", task_id)
        return content

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode, in another process where this one has had its share of resets."""
        start: tuple[str, dict[str, Any]] = self._ask("reset", seed, options)
        return start

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        outcome: tuple[str, float, bool, bool, dict[str, Any]] = self._ask("step", action)
        return outcome

    def snapshot(self) -> bytes:
        snapshot: bytes = self._ask("snapshot")
        return snapshot

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        start: tuple[str, dict[str, Any]] = self._ask("restore", snapshot)
        return start

    def remaining(self) -> int | None:
        number: int | None = self._ask("remaining")
        return number

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Return the environment's expert. It draws from a copy of `rng`, which stays as it is."""
        player: Expert = self._ask("expert", observation, rng, noise)
        return player

    def oracle(self) -> Expert:
        player: Expert = self._ask("oracle")
        return player

    def random_player(self, rng: np.random.Generator) -> Expert | None:
        """Return the environment's random player. It draws from a copy of `rng`, which stays as it is."""
        player: Expert | None = self._ask("random_player", rng)
        return player

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> Expert:
        player: Expert = self._ask("resumed_expert", observation, list(steps), suggestion)
        return player

    def seat_player(self, kind: str, agent: str, observation: str, rng: np.random.Generator) -> Expert | None:
        """Return the environment's player of a seat. It draws from a copy of `rng`, which stays as it is."""
        player: Expert | None = self._ask("seat_player", kind, agent, observation, rng)
        return player

    def noop(self, agent: str) -> str:
        action: str = self._ask("noop", agent)
        return action

    def lesson(self, observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
        lesson: Lesson = self._ask("lesson", observation, list(steps), pivot)
        return lesson

    def quiz(
        self, observation: str, steps: Sequence[tuple[str, str]], rng: np.random.Generator, number: int
    ) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = self._ask("quiz", observation, list(steps), rng, number)
        return pairs

    def close(self) -> None:
        """Close the environment and end its process. A call under way in another thread is cut off."""
        self._ask("close")

    async def ask(self, name: str, *args: Any, timeout_s: float | None = None) -> Any:
        return await self._do(name, args, is_blocking=False, timeout_s=timeout_s)

    def abandon(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._processes.abandon(worker, self.number)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the process: a copy begins without an episode, in a process of its own."""
        return {**self.__dict__, "_worker": None}

    def _ask(self, name: str, *args: Any) -> Any:
        return now(self._do(name, args, is_blocking=True))

    async def _do(self, name: str, args: tuple[Any, ...], *, is_blocking: bool, timeout_s: float | None = None) -> Any:
        """Make a call and return its result. `ask` calls this and, with `is_blocking`, so do the methods."""
        if name == "close":
            return await self._leave(is_blocking)
        if name == "act":
            player, observation = args
            return await player.asked(observation, is_blocking, timeout_s)
        if name == "reset" and self._worker is not None and self._processes.is_spent(self._worker):
            await self._leave(is_blocking)
        worker = self._running(name) if name in _IN_EPISODE else await self._ready(is_blocking)
        request = Request(self.number, name, args)
        if name == "reset":
            worker.num_resets += 1
            request = Request(self.number, name, kwargs=dict(zip(("seed", "options"), args, strict=True)))
        value = await self.send(worker, request, is_blocking, timeout_s)
        return _Player(self, worker, value) if name in PLAYERS and value is not None else value

    async def send(self, worker: Worker, request: Request, is_blocking: bool, timeout_s: float | None = None) -> Any:
        """Return the value of a reply; the state of the generator that comes with it is kept."""
        reply = await worker.ask(request, is_blocking=is_blocking, timeout_s=timeout_s)
        if reply.rng_state is not None:
            self._rng_state = reply.rng_state
        return reply.value

    async def _ready(self, is_blocking: bool) -> Worker:
        """Return the process of the environment; joins one if it has none."""
        if self._worker is not None and self._worker.is_alive:
            return self._worker
        self._worker = None
        worker = self._processes.join(self._path)
        worker.num_made += 1
        number = worker.num_made
        make = Request(number, "make", (self._path, self._options, self._rng_state))
        try:
            facts = await self.send(worker, make, is_blocking)
        except BaseException:
            self._processes.abandon(worker, number)
            raise
        self.splits, self.can_snapshot, self.has_lessons = facts.splits, facts.can_snapshot, facts.has_lessons  # type: ignore[misc]
        self.observation_space, self.action_space = facts.observation_space, facts.action_space
        self.seats = facts.seats
        self._worker, self.number = worker, number
        return worker

    async def _leave(self, is_blocking: bool) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._processes.leave(worker, self.number, is_blocking=is_blocking)

    def _running(self, name: str) -> Worker:
        worker = self._worker
        if worker is None or not worker.is_alive:
            why = worker.ending if worker is not None else ""
            raise EnvError(f"{why} There is no running episode; call reset before {name}.".lstrip())
        return worker


class _Player:
    """A player that runs in the process of its environment."""

    def __init__(self, env: ProcessEnv, worker: Worker, number: int) -> None:
        self._env = env
        self._env_number = env.number
        self._worker = worker
        self._number = number

    def act(self, observation: str) -> str:
        action: str = now(self.asked(observation, is_blocking=True))
        return action

    async def asked(self, observation: str, is_blocking: bool, timeout_s: float | None = None) -> Any:
        """Return the action, waited for as in `ProcessEnv.ask`."""
        request = Request(self._env_number, "act", (self._number, observation))
        return await self._env.send(self._worker, request, is_blocking, timeout_s)


def _importable(id: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return `module:Class` of an environment and all its arguments: what another process can make it from."""
    full_id = registry.resolve_env_id(id)
    spec = registry.env_spec(full_id)
    arguments = {**spec.kwargs, **options}
    if isinstance(spec.entry_point, str):
        return spec.entry_point, arguments
    module, name = spec.entry_point.__module__, spec.entry_point.__qualname__
    if module == "__main__" or "." in name:
        raise ConfigError(
            f"Environment '{full_id}' is {module}.{name}, which another process cannot import. "
            "Put the class at the top level of a module and register it as 'module:Class'."
        )
    return f"{module}:{name}", arguments
