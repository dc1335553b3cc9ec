"""Shared by all strategies: the plan of a group, and the interface of the workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agentgym_rft.config.run import ReflectSection
from agentgym_rft.config.team import CounterfactualSection
from agentgym_rft.core import Group, Trajectory
from agentgym_rft.registry.base import FunctionRegistry
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.reflection.reflectors import Reflection


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group to roll out: the episode to play (`base`, with the group's id), and how many trajectories."""

    base: EpisodeSpec
    group_size: int
    max_retries: int = 0
    reflect: ReflectSection = field(default_factory=ReflectSection)
    counterfactual: CounterfactualSection = field(default_factory=CounterfactualSection)


class RolloutWorkers(Protocol):
    """The part of the workers that a strategy uses.

    The workers limit how much runs at once; the strategy sets the order.
    """

    async def play(self, spec: EpisodeSpec) -> Trajectory: ...

    async def record(self, spec: EpisodeSpec, start: Fork | None = None) -> EpisodeRecord: ...

    async def reflect(self, played: EpisodeRecord) -> Reflection: ...


Strategy = Callable[[GroupPlan, RolloutWorkers], Awaitable[Group]]
OwnSection = Literal["rollout.reflect", "team.counterfactual"]


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """A registered strategy, and which of the sections that are for certain strategies only it reads."""

    play: Strategy
    reads: frozenset[OwnSection] = frozenset()

    @property
    def source(self) -> Strategy:
        return self.play


STRATEGIES: FunctionRegistry[StrategyEntry] = FunctionRegistry(
    "Rollout strategy", "agentgym_rft.strategies", StrategyEntry, ("plan", "workers")
)


def register_strategy(name: str, *reads: OwnSection) -> Callable[[Strategy], Strategy]:
    """Return a decorator that registers a strategy: a coroutine that plays the group of a plan.

    Args:
        name: what `rollout.strategy` calls it.
        reads: with `rollout.reflect` it gets that section's reflector; both sections are refused where they cannot be.
    Raises:
        RegistryError: the name is taken.
    """
    return STRATEGIES.decorator(name, lambda play: StrategyEntry(play, frozenset(reads)))
