"""Policies that all workers share: the actor that holds one, and the policy in each worker that asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.ray.actor_group import answer_of
from agentgym_rft.rollouts.ray.failures import readable
from agentgym_rft.rollouts.ray.packing import Packed, unpack
from agentgym_rft.rollouts.ray.setup import Location, Setup, location, open_policy
from agentgym_rft.rollouts.seeds import derive_seed


class PolicyReplica:
    """The actor: a policy in a process of its own."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._ended = asyncio.Event()

    @readable
    async def start(self, setup: Setup, packed: Packed | None, version: int) -> Location:
        """Load the model. Returns where it is."""
        self._policy = open_policy(setup, packed, version)
        return location()

    async def live(self) -> None:
        """Wait until the actor is closed. If its process dies, Ray raises an error for the caller."""
        await self._ended.wait()

    @readable
    async def sample(self, request: SampleRequest) -> Completion:
        """Return one action, see `Policy.sample`."""
        return await self._ready().sample(request)

    async def release(self, cache_key: str) -> None:
        """The episode is over."""
        self._ready().release(cache_key)

    @readable
    async def load(self, packed: Packed, version: int) -> None:
        """New weights. Raises `PolicyError` if they do not fit."""
        self._ready().load(unpack(packed), version)

    async def close(self) -> None:
        self._ended.set()
        if self._policy is not None:
            self._policy.close()

    def _ready(self) -> Policy:
        assert self._policy is not None, "the driver asks nothing before `start` has answered"
        return self._policy


class ReplicaPolicy:
    """Sends a worker's requests to replicas. All requests of an episode go to the replica that has its row cached.

    Args:
        max_replays: how often a request may be repeated because its replica was lost.
        timeout_s: how long a request waits while there is no replica.
    """

    version = 0  # unused: completions have the version of their replica

    def __init__(self, max_replays: int, timeout_s: float) -> None:
        self._replicas: dict[int, Any] = {}
        self._max_replays = max_replays
        self._timeout_s = timeout_s
        self._changed = asyncio.Event()
        self._num_repeated = 0

    def set_replicas(self, replicas: Mapping[int, Any]) -> None:
        """Take the current replicas, by number."""
        self._replicas = dict(replicas)
        self._changed.set()

    async def sample(self, request: SampleRequest) -> Completion:
        """Return one action. Raises `PolicyError` where the replica's policy does, or if too many replicas were
        lost.
        """
        from ray.exceptions import RayActorError

        for attempt in range(self._max_replays + 1):
            number, replica = await self._choose(request.cache_key)
            self._num_repeated += attempt > 0
            try:
                return await _sampled(replica, request)
            except RayActorError:
                if self._replicas.get(number) is replica:
                    del self._replicas[number]
        raise PolicyError(
            f"'{request.cache_key}' lost its policy replica {self._max_replays + 1} times while it sampled, more often "
            f"than rollout.ray.max_replays={self._max_replays} allows."
        )

    def release(self, cache_key: str) -> None:
        """Tell the replica to forget the episode, without waiting for its answer."""
        number = self._owner(cache_key)
        if number is not None:
            self._replicas[number].release.remote(cache_key)

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Do nothing: the driver gives new weights to the replicas directly."""
        raise PolicyError("The weights of replicas are loaded by the driver.")

    def close(self) -> None:
        """Do nothing: the driver ends the replicas."""

    def take_faults(self) -> dict[str, int]:
        """Return the number of repeated requests since the last call."""
        count, self._num_repeated = self._num_repeated, 0
        return {"request_repeated": count} if count else {}

    def _owner(self, cache_key: str) -> int | None:
        """Return the replica of an episode, by rendezvous hashing: if a replica is lost, only its own episodes move."""
        return max(self._replicas, key=lambda number: derive_seed(cache_key, number), default=None)

    async def _choose(self, cache_key: str) -> tuple[int, Any]:
        while (number := self._owner(cache_key)) is None:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self._timeout_s)
            except TimeoutError as error:
                raise PolicyError(f"No policy replica was there for {self._timeout_s:g} s.") from error
        return number, self._replicas[number]


async def _sampled(replica: Any, request: SampleRequest) -> Completion:
    import ray
    from ray.exceptions import RayTaskError

    answer = replica.sample.remote(request)
    try:
        completion: Completion = await answer_of(answer)
    except RayTaskError as error:
        if isinstance(error.cause, PolicyError):
            raise error.cause from None
        raise PolicyError(f"A policy replica failed: {type(error.cause).__name__}: {error.cause}") from error
    except asyncio.CancelledError:
        ray.cancel(answer)
        raise
    return completion
