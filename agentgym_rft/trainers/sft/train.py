"""Supervised fine-tuning on an expert's demonstrations: how the embedded seed policy is made.

The loss covers all tokens of an episode, with a lower weight for the context: predicting observations teaches a small
model to look things up in its history. Hidden matrices train with Muon, everything else with AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import NumericsError
from agentgym_rft.rollouts.policies import policy_dir
from agentgym_rft.trainers.sft.demonstrations import PlayerKind, asked, demonstrations, player_of, sft_agents, sft_cards
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.report_rows import experience_rows, mixed, play_episodes
from agentgym_rft.trainers.sft.report_tokens import add_pieces, report_pieces
from agentgym_rft.trainers.sft.rows import SftRow, sft_rows, with_room

POOL_ROWS = 512

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class SftBatch:
    """Right-padded rows, [num_rows, length]. `weights` is each token's loss weight as a target; padding weighs 0."""

    ids: torch.Tensor
    weights: torch.Tensor
    is_action: torch.Tensor


def pad_batch(rows: Sequence[SftRow], context_weight: float) -> SftBatch:
    """Return rows as one batch."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, weights, is_action = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, bool)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = row.ids
        is_action[index, :length] = row.is_action
        given = np.where(row.is_action, 1.0, context_weight) if row.weights is None else row.weights
        weights[index, :length] = given
    return SftBatch(torch.from_numpy(ids), torch.from_numpy(weights), torch.from_numpy(is_action))


def length_batches(rows: Iterator[SftRow], section: SftSection, seed: int) -> Iterator[SftBatch]:
    """Yield batches of rows of similar length, so that little is padding; their order is shuffled within a pool of
    rows.
    """
    rng = np.random.default_rng(seed)
    while True:
        pool = sorted(islice(rows, POOL_ROWS), key=lambda row: len(row.ids))
        batches: list[list[SftRow]] = [[]]
        for row in pool:
            if batches[-1] and (len(batches[-1]) + 1) * len(row.ids) > section.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        for index in rng.permutation(len(batches)):
            yield pad_batch(batches[index], section.context_weight)


def sft_loss(model: nn.Module, batch: SftBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weighted mean negative log-likelihood of the next tokens, and the plain mean over action tokens (nats)."""
    logits = model(input_ids=batch.ids[:, :-1], use_cache=False).logits.float()  # [num_rows, length - 1, vocab]
    nll = F.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    actions = batch.is_action[:, 1:].flatten()
    return (nll * weights).sum() / weights.sum(), nll.detach()[actions].mean()


def build_optimizers(model: nn.Module, section: SftSection) -> list[torch.optim.Optimizer]:
    """Return muon for the hidden matrices, AdamW for embeddings, norms and biases."""
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.ndim != 2 or id(p) in embeddings]
    return [
        torch.optim.Muon(matrices, lr=section.matrix_learning_rate, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=section.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(progress: float, section: SftSection) -> float:
    """Return factor of the learning rate at a share of the token budget: warm-up, constant, linear to zero."""
    if progress < section.warmup_fraction:
        return max(progress / section.warmup_fraction, 0.05)
    if progress > 1 - section.cooldown_fraction:
        return max((1 - progress) / section.cooldown_fraction, 0.0)
    return 1.0


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def fit(model: nn.Module, batches: Iterator[SftBatch], section: SftSection, report: Report) -> int:
    """Train on batches until the token budget is spent. Returns the number of optimizer steps."""
    optimizers = build_optimizers(model, section)
    device = next(model.parameters()).device
    num_tokens, step, start = 0, 0, time.perf_counter()
    model.train()
    while num_tokens < section.tokens:
        batch = next(batches)
        batch = SftBatch(batch.ids.to(device), batch.weights.to(device), batch.is_action.to(device))
        _set_rates(optimizers, schedule(num_tokens / section.tokens, section))
        with torch.autocast(device.type, torch.bfloat16, enabled=section.bf16):
            loss, action_loss = sft_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), section.max_grad_norm)
        if not norm.isfinite():
            raise NumericsError(
                f"The gradient norm is {norm.item()} at step {step + 1}. "
                "Lower sft.learning_rate and sft.matrix_learning_rate."
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        num_tokens += int((batch.weights > 0).sum())
        step += 1
        report(
            {
                "step": step,
                "tokens/total": num_tokens,
                "loss/all": loss.item(),
                "loss/action": action_loss.item(),
                "grad/norm": norm.item(),
                "time_s": time.perf_counter() - start,
            }
        )
    model.eval()
    return step


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
    config: SftConfig, env: TextEnv, card: AgentCard, model: nn.Module, tokenizer: Any, report: Report
) -> int:
    """Train a model in place on demonstrations and, by their shares, on reports and guided retries.

    For those the model first plays, and then its tokenizer is given tokens for the fixed pieces of reports. Returns the
    number of optimizer steps.
    """
    section, seed = config.sft, config.run.seed
    has_reports = section.reflection_share + section.guided_share > 0
    episodes = play_episodes(config, card, env, model, tokenizer) if has_reports else []
    if has_reports:
        add_pieces(model, tokenizer, report_pieces(section.labelled_turns, section.phrases))
    rows = demonstrated_rows(config, env, card, tokenizer)
    if has_reports:
        reports, guided = experience_rows(config, env, card, chat_format(tokenizer, card), episodes)
        rows = mixed(rows, reports, guided, section, seed)
    return fit(model, length_batches(rows, section, seed), section, report)


def demonstrated_rows(config: SftConfig, env: TextEnv, card: AgentCard, tokenizer: Any) -> Iterator[SftRow]:
    """Return rows of demonstrations without end: with several agents, those of every trained one in turn."""
    agents = sft_agents(config, env, card, tokenizer)
    stream = demonstrations(env, agents, split=config.env.split, seed=config.run.seed, section=config.sft)
    limit = config.model.max_context
    return (row for trajectory in with_room(stream, limit) for row in sft_rows(trajectory, limit))
