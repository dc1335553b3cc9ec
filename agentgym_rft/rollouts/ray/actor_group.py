"""A group of Ray actors of one kind; an actor that is lost is replaced."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from agentgym_rft.errors import ConfigError, WorkersError
from agentgym_rft.rollouts.ray.failures import first_line, own_error, refusal
from agentgym_rft.rollouts.ray.setup import Location

_CLOSE_S = 10.0  # for environments to close; after that the process is killed
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Member:
    """One actor: Ray's handle, its pending answers, and the version of the weights that it has."""

    number: int
    handle: Any
    started: Any  # answered with its location when it is ready
    life: Any  # answered when it is closed, or by an error when it is lost
    version: int
    where: Location | None = None
    is_ready: bool = False
    is_lost: bool = False


@dataclass(slots=True)
class Newest:
    """The newest weights, as a reference into the object store. None: those of the policy's directory."""

    packed: Any = None
    version: int = 0


@dataclass(slots=True)
class Budget:
    """The number of replacements that are left, for all groups together."""

    allowed: int
    used: int = 0

    def spend(self, kind: str, reason: str) -> None:
        """Raise `WorkersError` if there is none left."""
        self.used += 1
        if self.used > self.allowed:
            raise WorkersError(
                f"{self.used} Ray workers or policy replicas were lost, more than rollout.ray.max_worker_restarts="
                f"{self.allowed} allows. The last one was a {kind}: {reason}"
            )


@dataclass(slots=True)
class ActorGroup:
    """A group of actors: starts them, gives them new weights, and replaces lost ones.

    Args:
        kind: `worker` or `replica`; the names of fault counters begin with it.
        spawn: makes an actor.
        setup: reference to the `Setup` that it starts with.
        newest: the weights that it starts with. The object is shared with the code that publishes weights.
    """

    kind: str
    spawn: Callable[[], Any]
    setup: Any
    newest: Newest
    budget: Budget
    faults: Counter[str]
    timeout_s: float
    members: list[Member] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)  # of all that ever were ready

    def handles(self) -> dict[int, Any]:
        """Return Ray's handles of those that are ready, by number."""
        return {member.number: member.handle for member in self.members if member.is_ready}

    def begin(self, size: int) -> None:
        """Make the actors; they start on their own."""
        self.members = [self._make(number) for number in range(size)]

    def await_all(self) -> None:
        """Wait until all are ready.

        Raises:
            ConfigError: the cluster has no room for them, or one cannot be set up there.
            AgentGymError: an actor's start failed; the error is the one that a run without Ray would raise.
        """
        try:
            places = ray.get([member.started for member in self.members], timeout=self.timeout_s)
        except GetTimeoutError as error:
            raise ConfigError(
                f"Not all of {len(self.members)} {self.kind}s were ready within rollout.ray.start_timeout_s="
                f"{self.timeout_s:g}. The cluster has {_resources()}: ask for fewer or smaller ones (rollout.ray), "
                "or give them more time."
            ) from error
        except (RayTaskError, RayActorError) as error:
            raise refusal(error, self.kind) from error
        for member, where in zip(self.members, places, strict=True):
            self._note_ready(member, where)

    async def become_ready(self, member: Member) -> None:
        """Wait until a replacement is ready and has the newest weights.

        While other actors are ready there is no deadline, since they take over its work.

        Raises:
            RayActorError: it was lost meanwhile.
            WorkersError: none was ready in time.
            AgentGymError: its start failed.
        """
        started = asyncio.ensure_future(answer_of(member.started))
        while not (await asyncio.wait([started], timeout=self.timeout_s))[0]:
            if not any(each.is_ready for each in self.members):
                started.cancel()
                raise WorkersError(f"No Ray {self.kind} was ready for {self.timeout_s:g} s. There is {_resources()}.")
        try:
            where = started.result()
        except RayTaskError as error:
            raise refusal(error, self.kind) from error
        while member.version != self.newest.version:
            await self.hand_over(member)
        self._note_ready(member, where)

    async def hand_over(self, member: Member) -> None:
        """Give an actor the newest weights.

        Raises the actor's own error if it refuses them, or `RayActorError` if it is lost.
        """
        version = self.newest.version
        try:
            await answer_of(member.handle.load.remote(self.newest.packed, version))
        except RayTaskError as error:
            raise own_error(error) from error
        member.version = version

    def _note_ready(self, member: Member, where: Location) -> None:
        member.where, member.is_ready = where, True
        self.pids.add(where.pid)

    def is_gone(self, member: Member) -> bool:
        """Return whether Ray reports that an actor is lost."""
        return bool(ray.wait([member.life], timeout=0)[0])

    def note_loss(self, member: Member) -> bool:
        """Count a lost actor and kill it: it may only be unreachable and still run. False if it was counted before."""
        if member.is_lost:
            return False
        member.is_lost, member.is_ready = True, False
        self.faults[f"{self.kind}_lost"] += 1
        ray.kill(member.handle)
        return True

    def replace(self, member: Member, reason: Exception) -> Member:
        """Start another actor in place of a lost one. Raises `WorkersError` if too many were lost."""
        self.budget.spend(self.kind, first_line(reason))
        self.faults[f"{self.kind}_restarted"] += 1
        self.members[member.number] = self._make(member.number)
        return self.members[member.number]

    def end(self) -> None:
        """Close all actors, and end those that do not answer."""
        closed = [member.handle.close.remote() for member in self.members if member.is_ready]
        if closed:
            _, late = ray.wait(closed, num_returns=len(closed), timeout=_CLOSE_S)
            if late:
                _log.warning("%d Ray %ss did not close within %g s and are ended.", len(late), self.kind, _CLOSE_S)
        for member in self.members:
            ray.kill(member.handle)
        self.members = []

    def _make(self, number: int) -> Member:
        handle = self.spawn()
        started = handle.start.remote(self.setup, self.newest.packed, self.newest.version)
        return Member(number, handle, started, handle.live.remote(), self.newest.version)


def _resources() -> str:
    """Return the resources of the cluster in words."""
    totals = ray.cluster_resources()
    return f"{totals.get('CPU', 0):g} CPUs and {totals.get('GPU', 0):g} GPUs"


async def answer_of(reference: Any) -> Any:
    """Wait for the result of a Ray call.

    If the waiting task is cancelled, Ray's future is not: Ray does not expect that.
    """
    return await asyncio.shield(asyncio.wrap_future(reference.future()))
