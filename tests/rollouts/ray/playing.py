"""Episodes for workers on Ray, and the account of them that every test with a fault ends with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from agentgym_rft.core import Trajectory
from agentgym_rft.rollouts.accounting import Account, check
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.ray.workers import RayWorkers
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.base import Workers

DEADLINE_S = 240.0  # for a machine with other work; a test that waits so long has failed


def spec(workers: Workers, task: int, copy: int = 0, *, step_timeout_s: float | None = None) -> EpisodeSpec:
    name = f"{task}/{copy}"
    seed = derive_seed(7, name)
    return EpisodeSpec(str(task), str(task), name, seed, 1.0, 4, workers.max_context, step_timeout_s)


def specs(workers: Workers, tasks: Iterable[int], copies: int = 1, **limits: float) -> list[EpisodeSpec]:
    return [spec(workers, task, copy, **limits) for task in tasks for copy in range(copies)]


def play(
    workers: Workers, wanted: Sequence[EpisodeSpec], on_finished: Callable[[Trajectory], None] = lambda _: None
) -> list[Trajectory]:
    async def one(each: EpisodeSpec) -> Trajectory:
        trajectory = await workers.play(each)
        on_finished(trajectory)
        return trajectory

    async def all_of_them() -> list[Trajectory]:
        return list(await asyncio.wait_for(asyncio.gather(*map(one, wanted)), DEADLINE_S))

    return workers.run(all_of_them)


def both(workers: RayWorkers, kind: Literal["worker", "replica"] = "worker") -> list[int]:
    """The process ids of two workers or replicas, when both are ready."""

    async def ready() -> list[int]:
        await workers.play(spec(workers, 1))  # replacements are looked after only while something is played
        while len(workers.living(kind)) < 2:
            await asyncio.sleep(0.05)
        return sorted(workers.living(kind))

    return workers.run(lambda: asyncio.wait_for(ready(), DEADLINE_S))


def audit(
    workers: RayWorkers, wanted: Sequence[EpisodeSpec], played: Sequence[Trajectory], gone: Iterable[int] = ()
) -> dict[str, int]:
    """The faults, after a check that everything adds up and that these processes are gone."""
    faults = workers.take_faults()
    check(Account([each.episode_id for each in wanted], played, faults, gone))
    return faults


def tokens(trajectories: Iterable[Trajectory]) -> list[Any]:
    """What was sampled, and how it ended: equal for equal episodes, to the last bit."""
    return [(t.episode_id, t.stop_reason, [tuple(u.action_ids) for u in t.turns], t.rewards) for t in trajectories]


def stop_process(pid: int) -> None:
    """Nothing of it goes on, so what it has been given stays with it until it is killed."""
    os.kill(pid, signal.SIGSTOP)


def kill_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # an earlier kill had its effect meanwhile
        os.kill(pid, signal.SIGKILL)
