"""`trainer.mode`: which source plays a run's batches, and whether its policy is the trained model or a copy of it."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.build import serve
from agentgym_rft.sections import Config
from agentgym_rft.trainers.explorer import Explorer
from agentgym_rft.trainers.pipelined import AsyncSource, LaggedSource
from agentgym_rft.trainers.sources import Source, SyncSource


def check_mode(config: Config) -> None:
    """Raise `ConfigError` for settings that do not go together."""
    trainer, overprovision = config.trainer, config.rollout.overprovision
    if config.eval.every % trainer.sync_interval:
        raise ConfigError(
            f"eval.every is {config.eval.every}: evaluations play the newest weights, so it must be a multiple of "
            f"trainer.sync_interval={trainer.sync_interval}."
        )
    if overprovision and trainer.mode != "sync":
        raise ConfigError(
            f"rollout.overprovision={overprovision} is for trainer.mode=sync; in mode {trainer.mode} the next groups "
            "are under way anyway. Leave it out."
        )
    if config.rollout.stored is not None and (trainer.mode != "sync" or overprovision):
        raise ConfigError(
            "A run on stored trajectories plays nothing: leave out trainer.mode and rollout.overprovision."
        )


def sampling_policy(config: Config, model: Any) -> Policy:
    """The policy that plays: of the trained model itself, or of a copy where it may lag behind."""
    trainer, is_partial = config.trainer, config.rollout.overprovision > 0
    is_shared = trainer.mode == "sync" and trainer.sync_interval == 1 and not is_partial
    spans_versions = trainer.mode == "async" or is_partial
    return serve(model if is_shared else deepcopy(model), config.policy, spans_versions=spans_versions)


def source_of(explorer: Explorer) -> Source:
    """The source of a run that plays."""
    trainer, rollout = explorer.config.trainer, explorer.config.rollout
    if trainer.mode == "one_step_off":
        return LaggedSource(explorer, interval=trainer.sync_interval, offset=trainer.sync_offset)
    if trainer.mode == "async":
        ahead = trainer.max_staleness * rollout.num_tasks
        return AsyncSource(explorer, ahead=ahead, max_staleness=trainer.max_staleness)
    if rollout.overprovision:
        ahead = math.ceil(rollout.overprovision * rollout.num_tasks)
        return AsyncSource(explorer, ahead=ahead, max_staleness=trainer.max_staleness, pauses=True)
    return SyncSource(explorer)
