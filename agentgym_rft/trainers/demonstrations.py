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
from agentgym_rft.sft_sections import SftSection
from agentgym_rft.trainers.disguise import Disguise, Wordbook


def demonstrate(
    env: TextEnv,
    card: AgentCard,
    chat: ChatFormat,
    task_id: str,
    *,
    seed: int,
    noise: float,
    disguise: Disguise | None = None,
) -> Trajectory:
    """One episode of the environment's expert; the action ids are what a policy would have to sample.

    With a `disguise` the expert reads the environment's own texts, and the agent those in disguise.
    """
    observation, info = env.reset(seed=seed % 2**31, options={"task_id": task_id})
    expert = env.expert(observation, np.random.default_rng(seed), noise)
    agent = ChatAgent(card, chat)
    _show(agent, disguise, observation, info)
    turns, stop, reward = expert_turns(env, agent, chat, expert, (observation, info), disguise)
    name = f"demonstration/{task_id}/{seed}"
    return Trajectory(task_id, name, name, turns, stop, rewards={"env": reward})


def _show(agent: ChatAgent, disguise: Disguise | None, observation: str, info: dict[str, Any]) -> None:
    if disguise is None:
        agent.observe(observation, info)
    else:
        agent.observe(disguise.text(observation), disguise.info(info))


def expert_turns(
    env: TextEnv,
    agent: ChatAgent,
    chat: ChatFormat,
    expert: Expert,
    start: tuple[str, dict[str, Any]],
    disguise: Disguise | None = None,
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
        shown = action if disguise is None else disguise.text(action)
        ids = chat.reply(format_reply(shown, "", card.action))
        agent.act(ids)
        turns.append(
            Turn(prompt.added, ids, (0.0,) * len(ids), state_key=info.get("state_key", ""), restart=prompt.restart)
        )
        observation, step_reward, terminated, truncated, info = env.step(action)
        reward += float(step_reward)
        _show(agent, disguise, observation, info)
    stop = StopReason.SUCCESS if info["won"] else StopReason.FAILURE if terminated else StopReason.STEP_LIMIT
    return tuple(turns), stop, reward


def demonstrations(
    env: TextEnv, card: AgentCard, chat: ChatFormat, *, split: str, seed: int, section: SftSection
) -> Iterator[Trajectory]:
    """Won demonstrations without end, over shuffled passes of a split. Lost ones are left out."""
    book = Wordbook()
    sampler = TaskSampler(env.task_ids(split), derive_seed(seed, "demonstrations"))
    while True:
        number = sampler.cursor
        task_id = sampler.draw(1)[0]
        own_seed = derive_seed(seed, task_id, number)
        words = np.random.default_rng(derive_seed(own_seed, "disguise"))
        disguise = Disguise(words, section.disguise, section.keep_words, book) if section.disguise else None
        trajectory = demonstrate(env, card, chat, task_id, seed=own_seed, noise=section.noise, disguise=disguise)
        if trajectory.won:
            yield trajectory
