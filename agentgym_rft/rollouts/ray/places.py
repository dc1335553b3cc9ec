"""The free places of all workers: the episode that has waited longest gets the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Places(Generic[K]):
    """Gives each episode a place in the worker with the most free places.

    A slow worker frees few places and gets few episodes.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._free: dict[K, int] = {}
        self._waiting: deque[asyncio.Future[K]] = deque()
        self._failure: Exception | None = None

    async def take(self) -> K:
        """Wait for a free place and return its worker. Raises the error that `fail` was called with."""
        if self._failure is not None:
            raise self._failure
        worker = max(self._free, key=lambda each: self._free[each], default=None)
        if worker is not None and self._free[worker] > 0 and not self._waiting:
            self._free[worker] -= 1
            return worker
        future: asyncio.Future[K] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give(future.result())  # cancelled after the place was given: give it back
            raise

    def give(self, worker: K) -> None:
        """Give a place back. Does nothing if its worker is gone."""
        if worker not in self._free:
            return
        self._free[worker] += 1
        self._hand_out()

    def add(self, worker: K, number: int) -> None:
        """Add a worker with so many free places."""
        self._free[worker] = number
        self._hand_out()

    def remove(self, worker: K) -> None:
        """Remove a lost worker with its places."""
        self._free.pop(worker, None)

    def fail(self, error: Exception) -> None:
        """Raise an error for all who wait for a place, and for all who ask later: there will be no more places."""
        self._failure = error
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _hand_out(self) -> None:
        while self._waiting:
            worker = max(self._free, key=lambda each: self._free[each], default=None)
            if worker is None or self._free[worker] <= 0:
                return
            future = self._waiting.popleft()
            if not future.done():
                self._free[worker] -= 1
                future.set_result(worker)
