"""Every task of a panel played once, or several times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agentgym_rft.core import Trajectory
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")


class PanelWorkers(Protocol):
    """Play episodes: `LocalWorkers` or `AgentWorkers`."""

    @property
    def max_context(self) -> int: ...

    def run(self, work: Work[T]) -> T: ...

    async def play(self, spec: EpisodeSpec) -> Trajectory: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The tasks of a panel, and how each is played: `samples` times, each with a seed of its own."""

    task_ids: Sequence[str]
    temperature: float
    seed: int
    max_steps: int
    samples: int = 1
    step_timeout_s: float | None = None


def evaluate(
    workers: PanelWorkers,
    plan: EvaluationPlan,
    *,
    finished: Mapping[str, Trajectory] | None = None,
    on_finished: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """The trajectories in the order of the panel, the samples of a task one after the other.

    Errors are trajectories with a stop reason, not failures.

    Args:
        finished: episodes that were played before, by their id; they are not played again.
        on_finished: called with each episode played now, as it ends.
    """
    known = dict(finished or {})

    async def one(spec: EpisodeSpec) -> Trajectory:
        if spec.episode_id in known:
            return known[spec.episode_id]
        trajectory = await workers.play(spec)
        if on_finished is not None:
            on_finished(trajectory)
        return trajectory

    async def play_all() -> list[Trajectory]:
        specs = [_spec(workers, plan, task_id, sample) for task_id in plan.task_ids for sample in range(plan.samples)]
        return list(await asyncio.gather(*map(one, specs)))

    return workers.run(play_all)


def _spec(workers: PanelWorkers, plan: EvaluationPlan, task_id: str, sample: int) -> EpisodeSpec:
    """The first sample is the one of an evaluation with one sample a task."""
    parts = (task_id,) if sample == 0 else (task_id, sample)
    return EpisodeSpec(
        task_id=task_id,
        group_id=task_id,
        episode_id="eval/" + "#".join(map(str, parts)),
        seed=derive_seed(plan.seed, "eval", *parts),
        temperature=plan.temperature,
        max_steps=plan.max_steps,
        max_context=workers.max_context,
        step_timeout_s=plan.step_timeout_s,
    )
