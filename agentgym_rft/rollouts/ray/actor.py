"""The Ray actor that plays episodes: many at once, by `LocalWorkers`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.rollouts.episode.forks import Fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.ray.failures import check_sendable, readable
from agentgym_rft.rollouts.ray.packing import Packed, unpack
from agentgym_rft.rollouts.ray.replicas import ReplicaPolicy
from agentgym_rft.rollouts.ray.setup import Answer, Location, Setup, location, open_policy
from agentgym_rft.rollouts.reflection.chat import ChatRequest
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.rollouts.workers.local import make_local_workers


class RolloutWorker:
    """The actor. Its episodes share one event loop, as in a run without Ray."""

    def __init__(self) -> None:
        self._workers: Workers | None = None
        self._replicas: ReplicaPolicy | None = None
        self._ended = asyncio.Event()

    @readable
    async def start(self, setup: Setup, packed: Packed | None, version: int) -> Location:
        """Make the environments and the policy.

        Returns where this process runs; raises whatever keeps it from playing.
        """
        config = setup.config
        close_env(make_env(config.env.id, config.env.options))
        if setup.has_policy:
            policy = open_policy(setup, packed, version)
        else:
            section = config.rollout.ray
            policy = self._replicas = ReplicaPolicy(section.max_replays, section.start_timeout_s)
        self._workers = make_local_workers(config, setup.tokenizer, policy)
        return location()

    async def live(self) -> None:
        """Wait until the actor is closed. If its process dies, Ray raises an error for the caller."""
        await self._ended.wait()

    @readable
    async def record(self, spec: EpisodeSpec, start: Fork | None) -> Answer:
        """Return one episode, see `Workers.record`. Raises `EnvError` for an info that cannot be sent."""
        played = await self._ready().record(spec, start)
        check_sendable(played.observations)
        return self._answer(played)

    @readable
    async def play(self, spec: EpisodeSpec) -> Answer:
        """Play one episode and return only its trajectory.

        What a fork would need is left out: it is large, and would be sent.
        """
        played = await self._ready().record(spec)
        return self._answer(replace(played, observations=(), snapshots=(), remaining=()))

    @readable
    async def reply(self, request: ChatRequest) -> Answer:
        """Return a free-standing reply, see `Workers.reply`."""
        return self._answer(await self._ready().reply(request))

    @readable
    async def load(self, packed: Packed, version: int) -> None:
        """Load new weights into this worker's own policy. Raises `PolicyError` if they do not fit."""
        await self._ready().load(unpack(packed), version)

    async def set_replicas(self, replicas: Mapping[int, Any]) -> None:
        """Take the current policy replicas, by number."""
        assert self._replicas is not None, "only workers without a policy of their own are told of replicas"
        self._replicas.set_replicas(replicas)

    async def close(self) -> None:
        """Close the environments, with the processes that they may have started."""
        self._ended.set()
        if self._workers is not None:
            self._workers.close()

    def _ready(self) -> Workers:
        assert self._workers is not None, "the driver asks nothing before `start` has answered"
        return self._workers

    def _answer(self, value: Any) -> Answer:
        faults = Counter(self._ready().take_faults())
        if self._replicas is not None:
            faults.update(self._replicas.take_faults())
        return Answer(value, dict(faults))
