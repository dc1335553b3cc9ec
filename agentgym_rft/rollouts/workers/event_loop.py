"""The event loop that episodes run on: a fresh one for each call, or one that keeps running in a thread.

Neither becomes the current loop of its thread: that one is for environments, which may run it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class EventLoop:
    """Runs coroutines. After `start` they share one loop in a thread, so that work goes on between calls."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Work[T]) -> T:
        """Run a coroutine and return its result. Ctrl-C cancels it."""
        if self._loop is not None:
            future = self.submit(work)
            try:
                return future.result()
            except KeyboardInterrupt:
                future.cancel()
                raise
        return _run_in_fresh_loop(work)

    def submit(self, work: Work[T]) -> Future[T]:
        """Begin a coroutine in the background; `start` comes first."""
        assert self._loop is not None, "the background loop was not started"
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def start(self) -> None:
        """Go on in a thread from now on, until `close`."""
        if self._loop is not None:
            return
        ready = threading.Event()
        loop = asyncio.new_event_loop()

        def serve() -> None:
            loop.call_soon(ready.set)
            loop.run_forever()

        self._thread = threading.Thread(target=serve, name="episodes", daemon=True)
        self._thread.start()
        ready.wait()
        self._loop = loop

    def close(self) -> None:
        """Cancel what runs and end the thread; without one, nothing."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_others() -> None:
    own = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not own]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _run_in_fresh_loop(work: Work[T]) -> T:
    is_failed = False

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not is_failed:  # Ctrl-C and a full disk end every episode; a traceback for each would not help
            loop.default_exception_handler(context)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(report)
        try:
            return runner.run(work())
        except BaseException:
            is_failed = True
            raise
