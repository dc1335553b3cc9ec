"""Every task of a panel played once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentgym_rft.core import Trajectory
from agentgym_rft.rollouts.episode import EpisodeSpec
from agentgym_rft.rollouts.local import LocalWorkers
from agentgym_rft.rollouts.seeds import derive_seed


def evaluate(
    workers: LocalWorkers, task_ids: Sequence[str], *, temperature: float, seed: int, max_steps: int
) -> list[Trajectory]:
    """One trajectory a task, in the order of the panel. Errors are trajectories with a stop reason, not failures."""

    async def play_all() -> list[Trajectory]:
        specs = [
            EpisodeSpec(
                task_id=task_id,
                group_id=task_id,
                episode_id=f"eval/{task_id}",
                seed=derive_seed(seed, "eval", task_id),
                temperature=temperature,
                max_steps=max_steps,
                max_context=workers.max_context,
                stop_ids=workers.chat.stop_ids,
            )
            for task_id in task_ids
        ]
        return list(await asyncio.gather(*(workers.play(spec) for spec in specs)))

    return workers.run(play_all)
