"""Any environment in a process of its own: what it breaks, leaks or hangs in stays there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft import registry
from agentgym_rft.envs.base import Expert, Lesson, TextEnv
from agentgym_rft.envs.process_child import Request
from agentgym_rft.envs.process_worker import Worker
from agentgym_rft.errors import ConfigError, EnvError


class ProcessEnv(TextEnv):
    """An environment that runs in a process of its own and behaves like the one it hosts.

    For engines that are not thread-safe, that leak, crash or hang. What the environment raises is raised here: the
    package's own errors as they are, anything else as an `EnvError` that names it. A call that takes too long or a
    process that dies raises once; the next `reset` starts another process. The environment's generator goes on where
    it was, in whichever process: a seed gives the same episodes with and without processes.

    Args:
        id: a registered id, short name, or `module:Class`. The class has to be importable from its module.
        options: keyword arguments of the environment.
        timeout_s: deadline in seconds of each call, of making the environment too; None: no deadline.
        recycle_after: replace the process after so many resets, for engines whose memory grows; None: never.
        hash_seed: PYTHONHASHSEED of the process, for engines that depend on the order of sets; None: random.
        lazy: start the process when it is first needed, not at once; errors of the options come then, too.
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
    ) -> None:
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigError(f"timeout_s is {timeout_s}; expected more than 0, or none.")
        if recycle_after is not None and recycle_after < 1:
            raise ConfigError(f"recycle_after is {recycle_after}; expected at least 1, or none.")
        self._path, self._options = _importable(id, options or {})
        self._timeout_s = timeout_s
        self._recycle_after = recycle_after
        self._hash_seed = hash_seed
        self._rng_state: Mapping[str, Any] | None = None
        self._num_resets = 0
        self._worker: Worker | None = None
        if not lazy:
            self._ready()

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
        if self._recycle_after is not None and self._num_resets >= self._recycle_after:
            self.close()
        worker = self._ready()
        self._num_resets += 1
        request = Request("reset", kwargs={"seed": seed, "options": options})
        start: tuple[str, dict[str, Any]] = worker.call(request)
        return start

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        outcome: tuple[str, float, bool, bool, dict[str, Any]] = self._go_on("step", action)
        return outcome

    def snapshot(self) -> bytes:
        snapshot: bytes = self._go_on("snapshot")
        return snapshot

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        start: tuple[str, dict[str, Any]] = self._ask("restore", snapshot)
        return start

    def remaining(self) -> int | None:
        number: int | None = self._go_on("remaining")
        return number

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """The environment's expert. It draws from a copy of `rng`, which stays as it is."""
        return self._player("expert", observation, rng, noise)

    def oracle(self) -> Expert:
        return self._player("oracle")

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> Expert:
        return self._player("resumed_expert", observation, list(steps), suggestion)

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
        worker, self._worker = self._worker, None
        if worker is not None:
            self._rng_state = worker.rng_state
            worker.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the process: a copy begins without an episode, in a process of its own."""
        rng_state = self._rng_state if self._worker is None else self._worker.rng_state
        return {**self.__dict__, "_worker": None, "_rng_state": rng_state}

    def _ready(self) -> Worker:
        """The process, started if there is none."""
        worker = self._worker
        if worker is not None and worker.is_alive:
            return worker
        if worker is not None:
            self._rng_state = worker.rng_state
        worker = Worker(self._path, self._options, self._rng_state, self._timeout_s, self._hash_seed)
        facts = worker.facts
        self.splits, self.can_snapshot, self.has_lessons = facts.splits, facts.can_snapshot, facts.has_lessons  # type: ignore[misc]
        self.observation_space, self.action_space = facts.observation_space, facts.action_space
        self._num_resets = 0
        self._worker = worker
        return worker

    def _ask(self, name: str, *args: Any) -> Any:
        """A call that needs no episode."""
        return self._ready().call(Request(name, args))

    def _go_on(self, name: str, *args: Any) -> Any:
        """A call in the running episode."""
        if self._worker is None or not self._worker.is_alive:
            raise EnvError(f"There is no running episode; call reset before {name}.")
        return self._worker.call(Request(name, args))

    def _player(self, name: str, *args: Any) -> Expert:
        number: int = self._go_on(name, *args)
        assert self._worker is not None
        return _Player(self._worker, number)


class _Player:
    """A player that lives beside its environment, in the other process."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number

    def act(self, observation: str) -> str:
        action: str = self._worker.call(Request("act", (self._number, observation)))
        return action


def _importable(id: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """`module:Class` of an environment and all its arguments: what another process can make it from."""
    full_id = registry.resolve_env_id(id)
    if ":" in full_id:
        return full_id, dict(options)
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
