"""Environments for a bounded number of episodes at once, on one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from agentgym_rft.core import StopReason
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import UnmadeEnv, close_envs
from agentgym_rft.rollouts.episode.boundary import contained, guarded
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.workers.event_loop import EventLoop, Work

T = TypeVar("T")


class EnvPool:
    """Reuses environments between episodes. One whose episode ended with an error is closed instead.

    Args:
        make_env: builds one environment.
        max_concurrency: episodes at once; a finished one frees its place immediately.
    """

    def __init__(self, make_env: Callable[[], TextEnv], max_concurrency: int) -> None:
        self._make_env = make_env
        self._max_concurrency = max_concurrency
        self._has_made = False
        self._idle: deque[TextEnv] = deque()  # taken in turn: each process gets its share of episodes
        self.loop = EventLoop()
        self._places: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    def run(self, work: Work[T]) -> T:
        """Run a coroutine that plays episodes, see `EventLoop`."""
        return self.loop.run(work)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Return one of the places, as soon as there is one."""
        loop = asyncio.get_running_loop()
        if self._places is None or self._places[0] is not loop:
            self._places = loop, asyncio.Semaphore(self._max_concurrency)
        async with self._places[1]:
            yield

    async def play(
        self, episode: Callable[[TextEnv], Awaitable[EpisodeRecord]], close_timeout_s: float | None
    ) -> EpisodeRecord:
        """Return an episode in an environment of the pool, as soon as there is a place for it.

        `close_timeout_s` bounds the closing of an environment that broke.
        """
        async with self.place():
            env = self._idle.popleft() if self._idle else self._made()
            try:
                played = await episode(env)
            except BaseException:  # the episode was cut off, perhaps in the middle of a call
                EnvCalls(env, None).abandon()
                raise
            if played.trajectory.is_error:
                await discard(env, close_timeout_s)
            else:
                self._idle.append(env)
            return played

    def _made(self) -> TextEnv:
        """Return a new environment. After the first one, what it raises is the error of the episode it is for."""
        try:
            env = contained(self._make_env)
        except Exception as problem:
            if not self._has_made:
                raise
            return UnmadeEnv(problem)
        self._has_made = True
        return env

    def close(self) -> None:
        """End the background loop, if there is one, and close all idle environments."""
        self.loop.close()
        close_envs(self._idle)


async def discard(env: TextEnv, timeout_s: float | None) -> None:
    """Close an environment that broke, or is done with. Errors of the closing are ignored: what counts came before."""

    async def close() -> StopReason:
        await EnvCalls(env, timeout_s).close()
        return StopReason.ENV_ERROR

    await guarded(close, lambda: 0)
