"""Supervised fine-tuning on an expert's demonstrations: how the embedded seed policy is made.

The loss covers all tokens of an episode, with a lower weight for the context: predicting observations teaches a small
model to look things up in its history. Hidden matrices train with Muon, everything else with AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.policies import policy_dir
from agentgym_rft.trainers.batch.packing import Layout
from agentgym_rft.trainers.learner.scoring import Scorer, make_scorer
from agentgym_rft.trainers.sft.batches import batches
from agentgym_rft.trainers.sft.demonstrations import PlayerKind, asked, demonstrations, player_of, sft_agents, sft_cards
from agentgym_rft.trainers.sft.fit import Report, fit
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.optimizer import make_optimizer
from agentgym_rft.trainers.sft.report_rows import experience_rows, mixed, play_episodes
from agentgym_rft.trainers.sft.report_tokens import add_pieces, report_pieces
from agentgym_rft.trainers.sft.rows import SftRow, sft_rows

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
    """Return the model and tokenizer to train: fresh ones, or those of a directory."""
    if config.init != "scratch":
        return load_model(policy_dir(config.init))
    cards = list(dict.fromkeys(sft_cards(config, env, card).values()))
    section = config.sft
    texts = first_texts(env, cards, config.env.split, section.tokenizer_episodes, config.run.seed, section.player)
    tokenizer = train_tokenizer(texts, config.model.vocab_size)
    return build_model(config.model, len(tokenizer), config.run.seed), tokenizer


def train_sft(
    config: SftConfig,
    env: TextEnv,
    card: AgentCard,
    model: Any,
    tokenizer: Any,
    report: Report,
    note: Callable[[str], None] = lambda message: None,
) -> int:
    """Train a model in place on demonstrations and, by their shares, on reports and guided retries.

    For those the model first plays, and then its tokenizer is given tokens for the fixed pieces of reports, unless
    `sft.report_tokens` is false. Returns the number of optimizer steps.
    """
    section, seed = config.sft, config.run.seed
    has_reports = section.reflection_share + section.guided_share > 0
    episodes = play_episodes(config, card, env, model, tokenizer) if has_reports else []
    if has_reports and section.report_tokens:
        add_pieces(model, tokenizer, report_pieces(section.labelled_turns, section.phrases))
    rows = demonstrated_rows(config, env, card, tokenizer)
    if has_reports:
        reports, guided = experience_rows(config, env, card, chat_format(tokenizer, card), episodes)
        rows = mixed(rows, reports, guided, section, seed)
    scorer = sft_scorer(model, section, note)
    optimizer = make_optimizer(model, section)
    return fit(scorer, optimizer, batches(rows, section, scorer.layout, seed), section, report)


def sft_scorer(model: Any, section: SftSection, note: Callable[[str], None]) -> Scorer:
    """Return the scorer of a model. With packing=auto, one that cannot pack its rows gets padded ones, and a note."""
    packing = section.packing

    def make(layout: Layout) -> Scorer:
        return make_scorer(model, bf16=section.bf16, layout=layout, recompute=section.gradient_checkpointing)

    if packing != "auto":
        return make(packing)
    try:
        return make("packed")
    except ConfigError as error:
        note(f"Rows are padded: {error}")
        return make("padded")


def demonstrated_rows(config: SftConfig, env: TextEnv, card: AgentCard, tokenizer: Any) -> Iterator[SftRow]:
    """Return rows of demonstrations without end: with several agents, those of every trained one in turn."""
    agents = sft_agents(config, env, card, tokenizer)
    stream = demonstrations(env, agents, split=config.env.split, seed=config.run.seed, section=config.sft)
    return (row for trajectory in stream for row in sft_rows(trajectory, config.model.max_context))
