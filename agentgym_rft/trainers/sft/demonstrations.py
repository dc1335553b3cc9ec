"""Demonstrations: episodes of an environment's scripted expert, recorded as the chat agent's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.config.sft import SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.trainers.sft.word_substitution import Wordbook, WordSubstitution

PlayerKind = Literal["expert", "random"]


class AnyListed:
    """Picks among the actions that the environment lists."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, info: Mapping[str, Any]) -> str:
        """One of the actions. Raises `EnvError` where none is listed."""
        actions = info.get("admissible_actions") or ()
        if not actions:
            raise EnvError("The environment lists no actions and has no random player: write sft.player=expert.")
        return str(actions[int(self._rng.integers(len(actions)))])


def player_of(
    env: TextEnv, observation: str, rng: np.random.Generator, kind: PlayerKind, noise: float
) -> Expert | AnyListed:
    """The player that demonstrates the episode that began with `observation`.

    Raises `EnvError` if there is no expert.
    """
    if kind == "expert":
        return env.expert(observation, rng, noise)
    return env.random_player(rng) or AnyListed(rng)


def is_learnt_from(trajectory: Trajectory, section: SftSection) -> bool:
    """Whether a demonstration is imitated: a won one, and with `sft.lost` or random players any."""
    return trajectory.won or section.lost or section.player == "random"


def asked(player: Expert | AnyListed, observation: str, info: Mapping[str, Any]) -> str:
    """The answer of a player to an observation."""
    return player.choose(info) if isinstance(player, AnyListed) else player.act(observation)


def demonstrate(
    env: TextEnv,
    card: AgentCard,
    chat: ChatFormat,
    task_id: str,
    *,
    seed: int,
    noise: float,
    player: PlayerKind = "expert",
    substitution: WordSubstitution | None = None,
) -> Trajectory:
    """One episode of the environment's expert; the action ids are what a policy would have to sample.

    With a `substitution` the expert reads the environment's own texts, and the agent those in substitution.
    """
    observation, info = env.reset(seed=seed % 2**31, options={"task_id": task_id})
    expert = player_of(env, observation, np.random.default_rng(seed), player, noise)
    agent = ChatAgent(card, chat)
    show(agent, substitution, observation, info)
    turns, stop, reward = expert_turns(env, agent, chat, expert, (observation, info), substitution)
    name = f"demonstration/{task_id}/{seed}"
    return Trajectory(task_id, name, name, turns, stop, rewards={"env": reward})


def show(agent: ChatAgent, substitution: WordSubstitution | None, observation: str, info: Mapping[str, Any]) -> None:
    """Let an agent read an observation, in substitution if there is one."""
    if substitution is None:
        agent.observe(observation, info)
    else:
        agent.observe(substitution.text(observation), substitution.info(info))


def expert_turns(
    env: TextEnv,
    agent: ChatAgent,
    chat: ChatFormat,
    expert: Expert | AnyListed,
    start: tuple[str, dict[str, Any]],
    substitution: WordSubstitution | None = None,
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
        action = asked(expert, observation, info)
        shown = action if substitution is None else substitution.text(action)
        ids = chat.reply(format_reply(shown, "", card.action))
        agent.act(ids)
        turns.append(
            Turn(prompt.added, ids, (0.0,) * len(ids), state_key=info.get("state_key", ""), restart=prompt.restart)
        )
        observation, step_reward, terminated, truncated, info = env.step(action)
        reward += float(step_reward)
        show(agent, substitution, observation, info)
    stop = StopReason.SUCCESS if info["won"] else StopReason.FAILURE if terminated else StopReason.STEP_LIMIT
    return tuple(turns), stop, reward


def demonstrations(
    env: TextEnv, card: AgentCard, chat: ChatFormat, *, split: str, seed: int, section: SftSection
) -> Iterator[Trajectory]:
    """Demonstrations without end, over shuffled passes of a split: won ones of the expert, or any random play."""
    for task_id, own_seed, substitution in drawn_tasks(env, split, seed, section):
        trajectory = demonstrate(
            env,
            card,
            chat,
            task_id,
            seed=own_seed,
            noise=section.noise,
            player=section.player,
            substitution=substitution,
        )
        if is_learnt_from(trajectory, section):
            yield trajectory


def drawn_tasks(
    env: TextEnv, split: str, seed: int, section: SftSection
) -> Iterator[tuple[str, int, WordSubstitution | None]]:
    """Tasks of shuffled passes without end, each with the seed and the substitution of its demonstration."""
    book = Wordbook()
    sampler = TaskSampler(env.task_ids(split), derive_seed(seed, "demonstrations"))
    while True:
        number = sampler.cursor
        task_id = sampler.draw(1)[0]
        own_seed = derive_seed(seed, task_id, number)
        words = np.random.default_rng(derive_seed(own_seed, "disguise"))
        substitution = WordSubstitution(words, section.disguise, section.keep_words, book) if section.disguise else None
        yield task_id, own_seed, substitution
