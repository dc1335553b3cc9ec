"""The free places of all workers: whoever waits longest gets the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Places(Generic[K]):
    """Places are pulled, so a slow worker, which frees few, gets few episodes. Of several the emptiest is taken.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._free: dict[K, int] = {}
        self._waiting: deque[asyncio.Future[K]] = deque()
        self._failure: Exception | None = None

    async def take(self) -> K:
        """The worker that has a place, as soon as one has. Raises what `fail` was given."""
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
                self.give(future.result())  # it came in the very turn of the loop in which nobody wanted it any more
            raise

    def give(self, worker: K) -> None:
        """A place is free again; ignored for a worker that is no more."""
        if worker not in self._free:
            return
        self._free[worker] += 1
        self._hand_out()

    def add(self, worker: K, number: int) -> None:
        """A worker with so many free places."""
        self._free[worker] = number
        self._hand_out()

    def remove(self, worker: K) -> None:
        """The worker is gone, and its places with it."""
        self._free.pop(worker, None)

    def fail(self, error: Exception) -> None:
        """There will be no more places: everybody who waits gets the error, and so does who comes later."""
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
