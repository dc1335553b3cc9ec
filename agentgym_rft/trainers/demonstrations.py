"""Demonstrations: an environment's scripted expert played through the chat agent, as trajectories of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seeds import derive_seed


def demonstrate(
    env: TextEnv, card: AgentCard, chat: ChatFormat, task_id: str, *, seed: int, noise: float
) -> Trajectory:
    """One episode of the environment's expert; the action ids are what a policy would have to sample."""
    observation, info = env.reset(seed=seed % 2**31, options={"task_id": task_id})
    expert = env.expert(observation, np.random.default_rng(seed), noise)
    agent = ChatAgent(card, chat)
    agent.observe(observation, info)
    turns, stop, reward = expert_turns(env, agent, chat, expert, (observation, info))
    name = f"demonstration/{task_id}/{seed}"
    return Trajectory(task_id, name, name, turns, stop, rewards={"env": reward})


def expert_turns(
    env: TextEnv, agent: ChatAgent, chat: ChatFormat, expert: Expert, start: tuple[str, dict[str, Any]]
) -> tuple[tuple[Turn, ...], StopReason, float]:
    """Turns of an expert until the episode ends, why it ended, and their reward.

    `start` is the observation that the expert answers first, which the agent has been shown, and its info.
    """
    observation, info = start
    card = agent.card
    turns: list[Turn] = []
    reward, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        prompt = agent.prompt()
        action = expert.act(observation)
        ids = chat.reply(format_reply(action, "", card.action))
        agent.act(ids)
        turns.append(
            Turn(prompt.added, ids, (0.0,) * len(ids), state_key=info.get("state_key", ""), restart=prompt.restart)
        )
        observation, step_reward, terminated, truncated, info = env.step(action)
        reward += float(step_reward)
        agent.observe(observation, info)
    stop = StopReason.SUCCESS if info["won"] else StopReason.FAILURE if terminated else StopReason.STEP_LIMIT
    return tuple(turns), stop, reward


def demonstrations(
    env: TextEnv, card: AgentCard, chat: ChatFormat, *, split: str, seed: int, noise: float
) -> Iterator[Trajectory]:
    """Won demonstrations without end, over shuffled passes of a split. Lost ones are left out."""
    sampler = TaskSampler(env.task_ids(split), derive_seed(seed, "demonstrations"))
    while True:
        number = sampler.cursor
        task_id = sampler.draw(1)[0]
        trajectory = demonstrate(env, card, chat, task_id, seed=derive_seed(seed, task_id, number), noise=noise)
        if trajectory.won:
            yield trajectory
