"""The playing half of a training step: draws tasks and has groups of episodes played, in step with the trainer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentgym_rft.config.run import Config
from agentgym_rft.core import Group
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.strategies import GroupPlan, Strategy
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.parts import Context, coefficient
from agentgym_rft.trainers.batch.groups import by_seat, has_signal
from agentgym_rft.trainers.sources.base import Batch, Weights
from agentgym_rft.trainers.sources.opponents import OpponentPool


@dataclass(frozen=True, slots=True)
class Explorer:
    """Draws tasks, plans groups and has them played.

    Args:
        groups_per_step: that are played; fewer than `rollout.num_tasks` where a store gives the rest of a batch.
        pool: opponents from the run's past.
    """

    config: Config
    groups_per_step: int
    workers: Workers
    strategy: Strategy
    sampler: TaskSampler
    algorithm: Algorithm
    pool: OpponentPool | None = None

    async def collect(self, step: int) -> list[Group]:
        """Return the groups of a step.
        Groups without signal are replaced by other tasks, `max_resample` times at most.
        """
        groups: list[Group] = []
        num_wanted = self.groups_per_step
        for attempt in range(self.config.rollout.max_resample + 1):
            plans = self._plans(f"{step}.{attempt}", step, num_wanted)
            played = await asyncio.gather(*(self.strategy(plan, self.workers) for plan in plans))
            for group in played:  # in the order of their plans, so that the sampler's state follows from the seed
                self.sampler.observe(group)
            groups += played
            num_wanted = self.groups_per_step - sum(map(self.gives_signal, groups))
            if num_wanted <= 0:
                break
        return groups

    def gives_signal(self, group: Group) -> bool:
        """Return true if a played group has trajectories that are compared with each other and differ in return.

        A group of several agents is split first, as it is for training: in a zero-sum game the agents' returns always
        differ, those of each agent need not.
        """
        return any(map(has_signal, by_seat([group], self.config.team.baseline)))

    def _plans(self, name: str, step: int, number: int) -> list[GroupPlan]:
        """Return the plans of the next tasks.

        A task that comes twice, at the end of one pass and the start of the next, gets two names.
        """
        tasks = self.sampler.draw(number)
        before = [tasks[:place].count(task_id) for place, task_id in enumerate(tasks)]
        names = [f"{name}.{times}" if times else name for times in before]
        return [self.plan(own, task_id, step) for own, task_id in zip(names, tasks, strict=True)]

    async def play(self, plan: GroupPlan) -> Group:
        """Return a group, played; the sampler is told its outcome."""
        group = await self.strategy(plan, self.workers)
        self.sampler.observe(group)
        return group

    def plan(self, name: str, task_id: str, step: int) -> GroupPlan:
        """Return the plan of a group. All its random draws follow from the run's seed, `name` and the task.

        Which member of an opponent pool plays in it also follows from the state of the pool.
        """
        rollout, team = self.config.rollout, self.config.team
        group_id = f"{name}/{task_id}"
        spec = EpisodeSpec(
            task_id=task_id,
            group_id=group_id,
            episode_id=group_id,
            seed=derive_seed(self.config.run.seed, group_id),
            temperature=self._temperature(step),
            max_steps=rollout.max_steps,
            max_context=self.workers.max_context,
            step_timeout_s=rollout.step_timeout_s,
            invalid_penalty=rollout.invalid_penalty,
            stop_invalid=rollout.stop_invalid,
            stop_repeated=rollout.stop_repeated,
            players={} if self.pool is None else self.pool.players(group_id),
            reward_share=team.reward_share,
            reply_timeout_s=team.reply_timeout_s,
        )
        return GroupPlan(spec, rollout.group_size, rollout.max_retries, rollout.reflect, team.counterfactual)

    def _temperature(self, step: int) -> float:
        """Sampling temperature of a step: the algorithm's, if it controls it."""
        controlled = self.algorithm.temperature
        if controlled is None:
            return self.config.rollout.temperature
        return coefficient(controlled, Context(step=step, seed=self.config.run.seed))


class SyncSource:
    """Plays a batch when it is asked for, with the weights of the last hand-over: strictly on-policy at interval 1.

    With `sync_interval` I, batch t (from 1) lags (t - 1) mod I versions behind.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._workers = explorer.workers
        self._interval = explorer.config.trainer.sync_interval

    def begin(self, version: int, weights: Weights) -> None:
        if self._workers.version != version:
            self._load(version, weights)

    def batch(self, step: int) -> Batch:
        return Batch(self._workers.run(lambda: self._explorer.collect(step)))

    def publish(self, version: int, weights: Weights) -> None:
        if version % self._interval == 0:
            self._load(version, weights)

    @contextmanager
    def newest(self, version: int, weights: Weights) -> Iterator[None]:
        if self._workers.version != version:
            self._load(version, weights)
        yield

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self._explorer.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._explorer.sampler.load_state_dict(state["sampler"])

    def close(self) -> None:
        """Nothing goes on in the background."""

    def _load(self, version: int, weights: Weights) -> None:
        self._workers.run(lambda: self._workers.load(weights(), version))
