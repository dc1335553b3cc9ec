"""Rollouts in this process: many episodes at once on one event loop, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.episode import EpisodeSpec, run_episode
from agentgym_rft.rollouts.forks import Fork, Played
from agentgym_rft.rollouts.reflectors import Reflection, Reflector, SpokenReflector
from agentgym_rft.rollouts.speaker import Ask, Speaker

T = TypeVar("T")


class LocalWorkers:
    """Runs episodes with a bounded number of environments at once.

    Environments are reused between episodes; one whose episode ended with an error is closed and not used again.

    Args:
        make_env: builds one environment.
        card, tokenizer: what the agents are made of.
        policy: shared by all episodes.
        max_concurrency: episodes at once; a finished one frees its place immediately.
        max_context: tokens in one row.
        reflector: who reflects on episodes, where a strategy asks for it; by default the policy itself.
    """

    def __init__(
        self,
        make_env: Callable[[], TextEnv],
        card: AgentCard,
        tokenizer: Any,
        policy: Policy,
        *,
        max_concurrency: int,
        max_context: int,
        reflector: Reflector | None = None,
    ) -> None:
        self.card = card
        self.max_context = max_context
        self.chat = chat_format(tokenizer, card)
        self._make_env = make_env
        self._policy = policy
        self._max_concurrency = max_concurrency
        self._idle: list[TextEnv] = []
        self._speaker = Speaker(self.chat, policy, max_context)
        self._reflector = reflector or SpokenReflector(card, self.reply, is_own=True)

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

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """One episode, as soon as there is a place for it."""
        return (await self.record(spec)).trajectory

    async def record(self, spec: EpisodeSpec, start: Fork | None = None) -> Played:
        """One episode, from its beginning or from a fork, with all that a fork of it needs."""
        async with self._places:
            env = self._idle.pop() if self._idle else self._make_env()
            played = await run_episode(env, lambda: ChatAgent(self.card, self.chat), self._policy, spec, start)
            if played.trajectory.is_error:
                env.close()
            else:
                self._idle.append(env)
            return played

    async def reply(self, ask: Ask) -> Turn | None:
        """A free-standing reply of the policy, as soon as there is a place; see `Speaker.reply`."""
        async with self._places:
            return await self._speaker.reply(ask)

    async def reflect(self, played: Played) -> Reflection:
        """What the reflector says about an episode."""
        return await self._reflector.reflect(played)

    def close(self) -> None:
        """Close all idle environments."""
        while self._idle:
            self._idle.pop().close()
