"""Processes that environments share: several environments in each."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentgym_rft.envs.process.child import Request
from agentgym_rft.envs.process.worker import CLOSE_TIMEOUT_S, Worker
from agentgym_rft.errors import AgentGymError, ConfigError

T = TypeVar("T")


class Processes:
    """Starts at most so many processes for environments, each when it is first needed.

    The environments in a process are called one after the other. If one of them crashes or hangs, the process is
    replaced, and all of them lose their episodes.

    Args:
        num_processes: most at once. One with `recycle_after` resets ends when its last environment leaves it.
        timeout_s: deadline in seconds of each call, of making an environment too; None: no deadline.
        recycle_after: replace a process after so many resets; None: never.
        hash_seed: PYTHONHASHSEED of the processes; None: random.
    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        num_processes: int = 1,
        *,
        timeout_s: float | None = None,
        recycle_after: int | None = None,
        hash_seed: int | None = None,
    ) -> None:
        if num_processes < 1:
            raise ConfigError(f"num_processes is {num_processes}; expected at least 1.")
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigError(f"timeout_s is {timeout_s}; expected more than 0, or none.")
        if recycle_after is not None and recycle_after < 1:
            raise ConfigError(f"recycle_after is {recycle_after}; expected at least 1, or none.")
        self._num_processes = num_processes
        self._timeout_s = timeout_s
        self._recycle_after = recycle_after
        self._hash_seed = hash_seed
        self._workers: list[Worker] = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run."""
        return [worker.pid for worker in self._workers if worker.is_alive]

    def join(self, id: str) -> Worker:
        """Return the process for one more environment: a new one as long as there may be one, else the least
        crowded.
        """
        self._workers = [worker for worker in self._workers if worker.is_alive]
        candidates = [worker for worker in self._workers if not self.is_spent(worker)]
        if len(candidates) < self._num_processes:
            worker = Worker(id, self._timeout_s, self._hash_seed)
            self._workers.append(worker)
        else:
            worker = min(candidates, key=lambda candidate: candidate.num_envs)
        worker.num_envs += 1
        return worker

    async def leave(self, worker: Worker, number: int, *, is_blocking: bool) -> None:
        """Close environment `number` of a process, and the process with its last one.

        Raises what closing the environment raises.
        """
        worker.num_envs -= 1
        if worker.num_envs == 0:
            await worker.stop(is_blocking=is_blocking)
        elif worker.is_alive:
            await worker.ask(Request(number, "drop"), is_blocking=is_blocking, timeout_s=CLOSE_TIMEOUT_S)

    def abandon(self, worker: Worker, number: int) -> None:
        """Leave without waiting, even in the middle of a call."""
        worker.num_envs -= 1
        if worker.num_envs == 0:
            worker.kill()
        else:
            worker.post(Request(number, "drop"))

    def is_spent(self, worker: Worker) -> bool:
        """Return True if a process had its share of resets."""
        return self._recycle_after is not None and worker.num_resets >= self._recycle_after

    def close(self) -> None:
        """End all processes. Errors while they end are ignored."""
        workers, self._workers = self._workers, []
        for worker in workers:
            with contextlib.suppress(AgentGymError):
                now(worker.stop(is_blocking=True))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the processes: a copy starts its own."""
        return {**self.__dict__, "_workers": []}


def now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that blocks instead of waiting on an event loop, and return its result."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("the coroutine waits on an event loop")
