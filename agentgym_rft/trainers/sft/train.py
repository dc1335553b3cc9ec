"""Supervised fine-tuning on an expert's demonstrations: how the embedded seed policy is made, and how a pretrained
model is taught an environment.

From scratch the loss covers all tokens of an episode, with a lower weight for the context: predicting observations
teaches a small model to look things up in its history. A pretrained model knows how to, and learns the actions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.support import context_limit
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.policies import find_device, policy_dir
from agentgym_rft.store.trajectories import read_trajectories, write_trajectories
from agentgym_rft.trainers.sft.batches import batches
from agentgym_rft.trainers.sft.demonstrations import PlayerKind, asked, demonstrations, player_of, sft_agents, sft_cards
from agentgym_rft.trainers.sft.fit import Row, steps
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.report_rows import experience_rows, mixed, play_episodes
from agentgym_rft.trainers.sft.report_tokens import add_pieces, report_pieces
from agentgym_rft.trainers.sft.rows import SftRow, sft_rows, with_room
from agentgym_rft.trainers.sft.trainee import Done, make_trainee


def first_texts(
    env: TextEnv, cards: Sequence[AgentCard], split: str, num_episodes: int, seed: int, player: PlayerKind = "expert"
) -> Iterator[str]:
    """Yield text of some demonstrations, for training a tokenizer before there is one."""
    for task_id in env.task_ids(split)[:num_episodes]:
        observation, info = env.reset(seed=seed % 2**31, options={"task_id": task_id})
        expert = player_of(env, observation, np.random.default_rng(seed), player, noise=0.0)
        yield from (card.system for card in cards)
        yield observation.strip()
        ended = False
        while not ended:
            action = asked(expert, observation, info)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
            yield action
            yield observation.strip()


def start_policy(config: SftConfig, env: TextEnv, card: AgentCard) -> tuple[Any, Any]:
    """Return the model and tokenizer to train: fresh ones, or those of a directory.

    Raises:
        ConfigError, DataError: the directory cannot be used, or not for rows as long as the configuration allows.
    """
    if config.init != "scratch":
        model, tokenizer = load_model(policy_dir(config.init), device=find_device(config.device), dtype=torch.float32)
        context_limit(model.config, config.model.max_context, "model.max_context")
        return model, tokenizer
    cards = list(dict.fromkeys(sft_cards(config, env, card).values()))
    section = config.sft
    texts = first_texts(env, cards, config.env.split, section.tokenizer_episodes, config.run.seed, section.player)
    tokenizer = train_tokenizer(texts, config.model.vocab_size)
    return build_model(config.model, len(tokenizer), config.run.seed), tokenizer


def train_sft(
    config: SftConfig, env: TextEnv, card: AgentCard, model: Any, tokenizer: Any, report: Callable[[Row], None]
) -> int:
    """Train a model in place on demonstrations and, by their shares, on reports and guided retries.

    Returns the number of optimizer steps; `report` is told each one's metrics.
    """
    rows = training_rows(config, env, card, model, tokenizer)
    trainee, done = make_trainee(model, config.sft, config.run.seed), Done()
    for row in steps(trainee, batches(rows, config.sft, trainee.scorer.layout, config.run.seed), done):
        report(row)
    return done.steps


def training_rows(
    config: SftConfig, env: TextEnv, card: AgentCard, model: Any, tokenizer: Any, episodes_file: Path | None = None
) -> Iterator[SftRow]:
    """Return the rows of a run without end: demonstrations and, by their shares, reports and guided retries.

    For those the model first plays, and then its tokenizer is given tokens for the fixed pieces of reports, unless
    `sft.report_tokens` is false.

    Args:
        episodes_file: keeps what the model played; where it is there, the model does not play again.
    """
    section = config.sft
    if not section.reflection_share + section.guided_share:
        return demonstrated_rows(config, env, card, tokenizer)
    episodes = _episodes(config, env, card, model, tokenizer, episodes_file)
    if section.report_tokens:
        add_pieces(model, tokenizer, report_pieces(section.labelled_turns, section.phrases))
    rows = demonstrated_rows(config, env, card, tokenizer)
    reports, guided = experience_rows(config, env, card, chat_format(tokenizer, card), episodes)
    return mixed(rows, reports, guided, section, config.run.seed)


def _episodes(
    config: SftConfig, env: TextEnv, card: AgentCard, model: Any, tokenizer: Any, file: Path | None
) -> list[Trajectory]:
    """Return what the starting policy played, as it is read from the file, so that a resumed run sees the same."""
    if file is None:
        return play_episodes(config, card, env, model, tokenizer)
    if not file.exists():
        write_trajectories(file, play_episodes(config, card, env, model, tokenizer))
    return list(read_trajectories(file))


def demonstrated_rows(config: SftConfig, env: TextEnv, card: AgentCard, tokenizer: Any) -> Iterator[SftRow]:
    """Return rows of demonstrations without end: with several agents, those of every trained one in turn."""
    agents = sft_agents(config, env, card, tokenizer)
    stream = demonstrations(env, agents, split=config.env.split, seed=config.run.seed, section=config.sft)
    limit = config.model.max_context
    return (row for trajectory in with_room(stream, limit) for row in sft_rows(trajectory, limit))
