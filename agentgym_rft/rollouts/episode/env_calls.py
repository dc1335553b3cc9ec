"""The calls of an episode on its environment, wherever that runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np

from agentgym_rft.envs.base import AwaitableEnv, Expert, TextEnv
from agentgym_rft.envs.ended import close_in_time
from agentgym_rft.rollouts.episode.boundary import Step, call, contained

T = TypeVar("T")
Start = tuple[str, dict[str, Any]]


class EnvCalls:
    """Awaits an environment that runs elsewhere, and calls any other here: with a deadline, in a thread.

    This is the only place that knows the difference. Each call raises `TimeoutError` after the deadline.
    """

    def __init__(self, env: TextEnv, timeout_s: float | None) -> None:
        self.env = env
        self._elsewhere = env if isinstance(env, AwaitableEnv) else None
        self._timeout_s = timeout_s
        self._is_direct = self._elsewhere is None and timeout_s is None

    async def reset(self, seed: int, task_id: str) -> Start:
        options = {"task_id": task_id}
        return await self._call(partial(self.env.reset, seed=seed, options=options), "reset", seed, options)

    async def step(self, action: str) -> Step:
        if self._is_direct:  # a turn of a fast environment is shorter than what the general way costs
            answer: Step = contained(partial(self.env.step, action))
            return answer
        return await self._call(partial(self.env.step, action), "step", action)

    async def snapshot(self) -> bytes:
        return await self._call(self.env.snapshot, "snapshot")

    async def restore(self, snapshot: bytes) -> Start:
        return await self._call(partial(self.env.restore, snapshot), "restore", snapshot)

    async def remaining(self) -> int | None:
        return await self._call(self.env.remaining, "remaining")

    async def script(self, kind: str, agent: str, observation: str, rng: np.random.Generator) -> Expert | None:
        """Return the script `oracle`, `expert` or `random` for an agent, "" for the only one; None: any admissible
        action.
        """
        if agent:
            function = partial(self.env.seat_player, kind, agent, observation, rng)
            return await self._call(function, "seat_player", kind, agent, observation, rng)
        if kind == "oracle":
            return await self._call(self.env.oracle, kind)
        if kind == "expert":
            return await self._call(partial(self.env.expert, observation, rng), kind, observation, rng)
        return await self._call(partial(self.env.random_player, rng), "random_player", rng)

    async def noop(self, agent: str) -> str:
        return await self._call(partial(self.env.noop, agent), "noop", agent)

    async def act(self, player: Expert, observation: str) -> str:
        """Ask a script of this environment for its action."""
        return await self._call(partial(player.act, observation), "act", player, observation)

    async def close(self) -> None:
        await self._call(self.env.close if self._timeout_s else partial(close_in_time, self.env), "close")

    def abandon(self) -> None:
        """Give up an environment that runs elsewhere, even in the middle of a call; any other is left as it is."""
        if self._elsewhere is not None:
            self._elsewhere.abandon()

    async def _call(self, function: Callable[[], T], name: str, *args: Any) -> T:
        if self._elsewhere is not None:
            return cast(T, await self._elsewhere.ask(name, *args, timeout_s=self._timeout_s))
        return await call(function, self._timeout_s)
