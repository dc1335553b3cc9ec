"""Environments for a bounded number of episodes at once, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.boundary import discard
from agentgym_rft.rollouts.forks import Played

T = TypeVar("T")


class EnvPool:
    """Environments are reused between episodes; one whose episode ended with an error is closed and not used again.

    Args:
        make_env: builds one environment.
        max_concurrency: episodes at once; a finished one frees its place immediately.
    """

    def __init__(self, make_env: Callable[[], TextEnv], max_concurrency: int) -> None:
        self._make_env = make_env
        self._max_concurrency = max_concurrency
        self._idle: list[TextEnv] = []

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine that plays episodes, on an event loop of its own."""
        is_interrupted = False

        def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if not is_interrupted:  # after Ctrl-C every episode is cut off; a traceback for each would say nothing more
                loop.default_exception_handler(context)

        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(report)
            try:
                return runner.run(self._bounded(work))
            except KeyboardInterrupt:
                is_interrupted = True
                raise

    async def _bounded(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._places = asyncio.Semaphore(self._max_concurrency)
        return await work()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the places, as soon as there is one."""
        async with self._places:
            yield

    async def play(self, episode: Callable[[TextEnv], Awaitable[Played]], close_timeout_s: float | None) -> Played:
        """An episode in an environment of the pool, as soon as there is a place for it.

        `close_timeout_s` bounds the closing of an environment that broke.
        """
        async with self.place():
            env = self._idle.pop() if self._idle else self._make_env()
            played = await episode(env)
            if played.trajectory.is_error:
                await discard(env, close_timeout_s)
            else:
                self._idle.append(env)
            return played

    def close(self) -> None:
        """Close all idle environments."""
        while self._idle:
            self._idle.pop().close()
