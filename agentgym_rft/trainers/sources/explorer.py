"""The playing half of a training step: draws tasks and has groups of episodes played."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

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
        """The groups of a step. Groups without signal are replaced by other tasks, `max_resample` times at most."""
        groups: list[Group] = []
        num_wanted = self.groups_per_step
        for attempt in range(self.config.rollout.max_resample + 1):
            plans = self._plans(f"{step}.{attempt}", step, num_wanted)
            played = await asyncio.gather(*(self.strategy(plan, self.workers) for plan in plans))
            for group in played:  # in the order of their plans, so that the sampler's state follows from the seed
                self.sampler.observe(group)
            groups += played
            num_wanted = self.groups_per_step - sum(
                any(map(has_signal, by_seat([group], self.config.team.baseline))) for group in groups
            )
            if num_wanted <= 0:
                break
        return groups

    def _plans(self, name: str, step: int, number: int) -> list[GroupPlan]:
        """Plans of the next tasks.

        A task that comes twice, at the end of one pass and the start of the next, gets two names.
        """
        tasks = self.sampler.draw(number)
        before = [tasks[:place].count(task_id) for place, task_id in enumerate(tasks)]
        names = [f"{name}.{times}" if times else name for times in before]
        return [self.plan(own, task_id, step) for own, task_id in zip(names, tasks, strict=True)]

    async def play(self, plan: GroupPlan) -> Group:
        """A group, played; the sampler is told its outcome."""
        group = await self.strategy(plan, self.workers)
        self.sampler.observe(group)
        return group

    def plan(self, name: str, task_id: str, step: int) -> GroupPlan:
        """The plan of a group. All its random draws follow from the run's seed, `name` and the task.

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
