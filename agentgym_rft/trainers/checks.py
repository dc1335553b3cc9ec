"""Refuses settings that do not go together, over all sections of the configuration."""

from __future__ import annotations

import re

from agentgym_rft.agents.policies.names import is_vllm
from agentgym_rft.config.run import Config, num_fresh, num_replayed, plays_nothing
from agentgym_rft.envs.making import has_noop
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.seats import SCRIPTS, player_key, seat_section, trained_seats
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.learner.processes import Ranks


def trained_policies(config: Config, algorithm: Algorithm, ranks: Ranks) -> tuple[str, ...]:
    """The keys of the policies that a run trains, in the order of their first seats; ("",) for one policy for all.

    Raises:
        ConfigError: nothing would be trained, or settings under `team` do not go together with others.
    """
    team = config.team
    if not team.seats and team.weights == "shared" and not team.pool.share:
        return ("",)
    seats = trained_seats(config)
    if team.seats and not seats:
        raise ConfigError("No seat is trained: give at least one under team.seats the policy 'trained'.")
    if team.pool.share:
        _check_pool(config, len(seats), ranks)
    if team.weights == "shared":
        return ("",)
    if not seats:
        raise ConfigError(f"team.weights=separate is for several agents; '{config.env.id}' has one. Leave it out.")
    keys = tuple(dict.fromkeys(player_key(seat_section(a, role, team.seats), role, team) for a, role in seats.items()))
    if len(keys) > 1:
        _check_names(config, keys)
        _check_separate(config, algorithm, ranks)
    return keys


def _refuse(name: str, reasons: dict[str, bool]) -> None:
    """Raise `ConfigError` with the first reason that holds."""
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(f"{name} cannot be used {reason}")


def _check_names(config: Config, keys: tuple[str, ...]) -> None:
    """Keys name directories and weights, and stand beside the names of scripts and of policies that only play."""
    frozen = {section.policy for section in config.team.seats.values()}
    for key in keys:
        if not re.fullmatch(r"\w[\w.-]*", key) or key in SCRIPTS or key in frozen:
            raise ConfigError(
                f"The role '{key}' cannot name a policy (team.weights=separate): expected letters, digits, _, - and ., "
                f"and neither {', '.join(SCRIPTS)} nor the policy of another seat. Write team.weights=shared."
            )


def _check_separate(config: Config, algorithm: Algorithm, ranks: Ranks) -> None:
    rollout, team = config.rollout, config.team
    reflects = "rollout.reflect" in STRATEGIES.lookup(rollout.strategy).reads and rollout.reflect.reflector == "self"
    _refuse(
        "team.weights=separate",
        {
            "with rollout.workers=ray, which hands out one policy's weights: write rollout.workers=local.": (
                rollout.workers == "ray"
            ),
            "with vllm:, which has one model: leave it out of policy.path.": is_vllm(config.policy.path),
            "with several processes: start it without torchrun.": ranks.size > 1 or ranks.is_sharded,
            "with stored groups or demonstrations, which no role played: leave out rollout.stored, "
            "rollout.experts and store.": _reads_stored(config) or rollout.experts.num > 0,
            "with team.baseline=team, which compares what different policies played: write seat or role.": (
                team.baseline == "team"
            ),
            "with an algorithm that controls the temperature, which is one for all: choose another.": (
                algorithm.temperature is not None
            ),
            "with rollout.reflect.reflector=self, as reflections are no role's: name another reflector.": reflects,
        },
    )


def _check_pool(config: Config, num_trained: int, ranks: Ranks) -> None:
    rollout, trainer = config.rollout, config.trainer
    _refuse(
        "team.pool.share",
        {
            "with fewer than two trained seats: the pool plays the others of them.": num_trained < 2,
            "with team.weights=separate: its policies each play one role. Write shared.": (
                config.team.weights == "separate"
            ),
            "with rollout.workers=ray, whose workers do not get the pool: write rollout.workers=local.": (
                rollout.workers == "ray"
            ),
            "with vllm:, which has one model: leave it out of policy.path.": is_vllm(config.policy.path),
            "with trainer.parallel.strategy=fsdp2, where no process has all weights: write ddp.": ranks.is_sharded,
            "with groups that play ahead: write trainer.mode=sync, and leave out rollout.overprovision.": (
                trainer.mode != "sync" or rollout.overprovision > 0
            ),
            "with stored groups: leave out rollout.stored and store.": _reads_stored(config),
        },
    )


def _reads_stored(config: Config) -> bool:
    return config.rollout.stored is not None or config.store.path is not None or config.store.replay_share > 0


def check_store(config: Config, algorithm: Algorithm) -> None:
    """Raise `ConfigError` for settings that do not go together."""
    store, num_tasks = config.store, config.rollout.num_tasks
    if plays_nothing(config):
        if store.path is None:
            raise ConfigError("store.replay_share=1 trains on a store that others fill: say which with store.path.")
        if config.trainer.mode != "sync" or config.rollout.stored is not None:
            raise ConfigError("With store.replay_share=1 nothing is played: leave out trainer.mode and rollout.stored.")
    elif store.replay_share:
        if config.rollout.stored is not None:
            raise ConfigError("rollout.stored replaces playing, and store.replay_share adds to it: leave one out.")
        if not num_replayed(config) or not num_fresh(config):
            raise ConfigError(
                f"store.replay_share={store.replay_share:g} of {num_tasks} groups a step leaves none to replay, or "
                "none to play. Change it, or rollout.num_tasks."
            )
        if store.max_uses == 1:
            raise ConfigError(
                "store.max_uses=1 lets no group be replayed: its own step is its first use. Set 2 or null."
            )
    if store.replay_share and store.replay_as == "imitation" and not algorithm.uses_auxiliary:
        raise ConfigError(
            f"store.replay_as=imitation is for an algorithm that imitates, such as spear; '{algorithm.name}' does not."
        )
    if config.rollout.experts.num and not algorithm.uses_auxiliary:
        raise ConfigError(
            f"rollout.experts.num={config.rollout.experts.num} is for an algorithm that imitates, such as mix; "
            f"'{algorithm.name}' does not."
        )


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


def check_credit(config: Config) -> None:
    """Raise `ConfigError` if a strategy is to replace turns by no-ops that there are none of."""
    reads = STRATEGIES.lookup(config.rollout.strategy).reads
    if "team.counterfactual" not in reads or config.team.counterfactual.by != "noop":
        return
    if not has_noop(config.env.id, config.env.options):
        raise ConfigError(f"'{config.env.id}' has no action that does nothing: write team.counterfactual.by=policy.")
