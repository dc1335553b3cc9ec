"""The source of a run, as its configuration says: what plays or reads, and what is put around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.config.run import Config, num_fresh, plays_nothing
from agentgym_rft.store.experience import vocabulary_of
from agentgym_rft.store.stored_groups import GroupStore
from agentgym_rft.trainers.experts import Demonstrator
from agentgym_rft.trainers.explorer import Explorer
from agentgym_rft.trainers.modes import source_of
from agentgym_rft.trainers.pooled_source import PooledSource
from agentgym_rft.trainers.sources import Source
from agentgym_rft.trainers.stored_sources import (
    EXPLORER,
    ExpertSource,
    ReplaySource,
    StoredSource,
    StoreFile,
    StoreSource,
)


def played_config(config: Config) -> Config:
    """The configuration with only as many groups a step as are played, for who plays them."""
    if plays_nothing(config):
        return config
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"num_tasks": num_fresh(config)})})


def make_source(config: Config, explorer: Explorer, stored: GroupStore | None, tokenizer: Any, run_dir: Path) -> Source:
    """The source; `stored` is what `rollout.stored` names. Raises `ConfigError` or `DataError` for what cannot work."""
    source = _base(config, explorer, stored, tokenizer, run_dir)
    if explorer.pool is not None:
        source = PooledSource(source, explorer.pool)
    if not config.rollout.experts.num:
        return source
    card = load_card(config.agent)
    demonstrator = Demonstrator(config, card, chat_format(tokenizer, card))
    return ExpertSource(source, demonstrator)


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
