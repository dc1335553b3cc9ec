"""Makes the source of a run from its configuration: one that plays or reads, and others that wrap it."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.names import is_vllm
from agentgym_rft.config.run import Config, plays_nothing
from agentgym_rft.rollouts.policies import policy_section, sampling_dtype, serve
from agentgym_rft.store.experience import vocabulary_of
from agentgym_rft.store.stored_groups import GroupStore
from agentgym_rft.trainers.sources.base import Source
from agentgym_rft.trainers.sources.experts import Demonstrator
from agentgym_rft.trainers.sources.explorer import Explorer, SyncSource
from agentgym_rft.trainers.sources.labels import LabelSource
from agentgym_rft.trainers.sources.pipelined import AsyncSource, LaggedSource
from agentgym_rft.trainers.sources.pooled import PooledSource
from agentgym_rft.trainers.sources.stored import (
    EXPLORER,
    ExpertSource,
    ReplaySource,
    StoredSource,
    StoreFile,
    StoreSource,
)


def make_source(config: Config, explorer: Explorer, stored: GroupStore | None, tokenizer: Any, run_dir: Path) -> Source:
    """Return the source; `stored` is what `rollout.stored` names.
    Raises `ConfigError` or `DataError` for what cannot work.
    """
    source = _base(config, explorer, stored, tokenizer, run_dir)
    if explorer.pool is not None:
        source = PooledSource(source, explorer.pool)
    if not (config.rollout.experts.num or explorer.algorithm.learns_labels):
        return source
    card = load_card(config.agent)
    chat = chat_format(tokenizer, card)
    if explorer.algorithm.learns_labels:
        source = LabelSource(source, config, card, chat)
    return ExpertSource(source, Demonstrator(config, card, chat)) if config.rollout.experts.num else source


def _base(config: Config, explorer: Explorer, stored: GroupStore | None, tokenizer: Any, run_dir: Path) -> Source:
    if stored is not None:
        return StoredSource(explorer, stored)
    section = config.store
    if section.path is None and not section.replay_share:
        return source_of(explorer)
    is_read_only = plays_nothing(config)
    path = run_dir / "experience.db" if section.path is None else Path(section.path)
    file = StoreFile(path, vocabulary_of(tokenizer), EXPLORER if is_read_only else f"run {run_dir.name}")
    if section.path is not None:
        file.check()
    return StoreSource(explorer, file) if is_read_only else ReplaySource(source_of(explorer), config, file)


def plays_trained_model(config: Config, *, is_sharded: bool) -> bool:
    """Return whether the policy samples from the trained model itself.

    It does if the model is in this process, whole, of the type that samples, and never lags.
    """
    trainer, is_partial = config.trainer, config.rollout.overprovision > 0
    if is_vllm(config.policy.path) or config.rollout.workers == "ray" or config.policy.dtype == "bfloat16":
        return False
    return trainer.mode == "sync" and trainer.sync_interval == 1 and not is_partial and not is_sharded


def keeps_journal(config: Config) -> bool:
    """Return whether completions are recorded for a resume: only if all of them belong to the batch of the step."""
    is_sync = config.trainer.mode == "sync" and not config.rollout.overprovision
    return config.run.journal and is_sync and config.rollout.workers != "ray"


def sampling_policy(config: Config, model: Any, *, is_shared: bool) -> Policy:
    """Return the policy that plays. It samples from the trained model itself or from a copy; vLLM loads its own."""
    spans_versions = config.trainer.mode == "async" or config.rollout.overprovision > 0
    is_read_only = is_shared or is_vllm(config.policy.path)
    played = model if is_read_only else deepcopy(model).to(sampling_dtype(config.policy, model.dtype))
    return serve(played, policy_section(config), spans_versions=spans_versions)


def source_of(explorer: Explorer) -> Source:
    """Return the source of a run that plays."""
    trainer, rollout = explorer.config.trainer, explorer.config.rollout
    if trainer.mode == "one_step_off":
        return LaggedSource(explorer, interval=trainer.sync_interval, offset=trainer.sync_offset)
    if trainer.mode == "async":
        ahead = trainer.max_staleness * explorer.groups_per_step
        return AsyncSource(explorer, ahead=ahead, max_staleness=trainer.max_staleness)
    if rollout.overprovision:
        ahead = math.ceil(rollout.overprovision * explorer.groups_per_step)
        return AsyncSource(explorer, ahead=ahead, max_staleness=trainer.max_staleness, pauses=True)
    return SyncSource(explorer)
