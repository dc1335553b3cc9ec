"""The interface of rollout workers, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.reflection.chat import ChatRequest
from agentgym_rft.rollouts.reflection.reflectors import Reflection
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")


class Workers(Protocol):
    """Play many episodes at once. Coroutines are run by `run`, or by `submit` after `start`."""

    @property
    def card(self) -> AgentCard: ...

    @property
    def max_context(self) -> int: ...

    @property
    def version(self) -> int:
        """The version of the weights that play."""
        ...

    def run(self, work: Work[T]) -> T:
        """Run a coroutine that plays episodes and return its result."""
        ...

    def start(self) -> None:
        """Play in the background from now on, so that episodes go on between calls of `run` and `submit`."""
        ...

    def submit(self, work: Work[T]) -> Future[T]:
        """Begin a coroutine in the background."""
        ...

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode, as soon as there is a place for it. An error in it becomes its stop reason."""
        ...

    async def record(self, spec: EpisodeSpec, start: Fork | None = None) -> EpisodeRecord:
        """Return one episode, from its beginning or from a fork, with all that a fork of it needs."""
        ...

    async def reply(self, request: ChatRequest) -> Turn | None:
        """Return a free-standing reply of the policy, see `Completer.reply`."""
        ...

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        """Return the reflector's report on an episode."""
        ...

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Play with these weights from now on, see `Policy.load`."""
        ...

    def take_faults(self) -> dict[str, int]:
        """Return counts of faults since the last call, by name: lost workers, episodes repeated because of them."""
        ...

    def close(self) -> None:
        """End everything that was started."""
        ...
