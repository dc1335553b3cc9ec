"""Plays demonstrations of an environment's scripted expert, which are added to the batches of a run."""

from __future__ import annotations

from dataclasses import replace

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seats import only_agent
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.store.stored_groups import STORED_VERSION
from agentgym_rft.trainers.sft.demonstrations import demonstrate

TRIES = 20  # most episodes for each demonstration; an expert that wins more rarely gives fewer demonstrations


class Demonstrator:
    """Gives the demonstrations of each step; they follow from the seed and the step alone.

    Raises:
        ConfigError: the environment has no expert.
    """

    def __init__(self, config: Config, card: AgentCard, chat: ChatFormat) -> None:
        self._config = config
        self._agents = only_agent(card, chat)
        self._env: TextEnv = make_env(config.env.id, config.env.options)
        self._task_ids = self._env.task_ids(config.env.split)
        try:
            self._play(self._task_ids[0], 0)
        except EnvError as error:
            raise ConfigError(f"rollout.experts.num={config.rollout.experts.num}: {error} Set it to 0.") from error

    def demonstrations(self, step: int) -> list[Trajectory]:
        """Return won episodes that fit into the policy's context, at most `rollout.experts.num` of them."""
        number = self._config.rollout.experts.num
        sampler = TaskSampler(self._task_ids, derive_seed(self._config.run.seed, "experts"), step * number * TRIES)
        found: list[Trajectory] = []
        for task_id in sampler.draw(number * TRIES):
            if len(found) == number:
                break
            trajectory = self._play(task_id, derive_seed(self._config.run.seed, "experts", step, task_id))
            if trajectory.won and _longest_row(trajectory) <= self._config.policy.max_context:
                found.append(trajectory)
        return found

    def close(self) -> None:
        """Close the environment."""
        close_env(self._env)

    def _play(self, task_id: str, seed: int) -> Trajectory:
        (trajectory,) = demonstrate(self._env, self._agents, task_id, seed=seed, noise=0.0)
        turns = tuple(replace(turn, policy_version=STORED_VERSION, off_context=True) for turn in trajectory.turns)
        return replace(trajectory, turns=turns)


def _longest_row(trajectory: Trajectory) -> int:
    rows = (sum(len(turn.context_ids) + len(turn.action_ids) for turn in row) for row in trajectory.rows())
    return max(rows, default=0)
