"""All refusals that look at more than one section of a configuration, before anything expensive is done.

`check_config` is for a run, `check_exploration` for `agentgym explore`, `check_sft` for `agentgym sft`. What concerns
one section alone is refused where it is read.
"""

from __future__ import annotations

import re

from agentgym_rft.agents.policies.names import is_vllm
from agentgym_rft.config.run import Config, num_fresh, num_replayed, plays_nothing
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.envs.making import has_noop, seats_of
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.seats import SCRIPTS, trained_policies, trained_seats
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.batch.table import available_columns
from agentgym_rft.trainers.learner.processes import ALONE, Ranks


def check_config(config: Config, algorithm: Algorithm, ranks: Ranks = ALONE) -> None:
    """Refuse a run whose settings do not go together.

    Args:
        algorithm: that of the configuration.
        ranks: the processes that train.
    Raises:
        ConfigError: one sentence about the first problem, with what to write instead.
        RegistryError: there is no such environment.
    """
    algorithm.validate(available_columns(reference=True, critic=True, teacher=True), config.rollout.group_size)
    _check_teacher(config, algorithm, ranks)
    _check_mode(config)
    _check_store(config, algorithm)
    _check_experts(config, algorithm)
    _check_team(config, algorithm, ranks)
    _check_counterfactual(config)
    if ranks.is_sharded and config.trainer.entropy_probe:
        raise ConfigError(
            "trainer.entropy_probe needs all weights in each process: write trainer.parallel.strategy=ddp."
        )


def check_exploration(config: Config) -> None:
    """Refuse an exploration whose settings do not go together. Raises `ConfigError`."""
    if config.store.path is None:
        raise ConfigError("agentgym explore writes to an experience store: name a file with --store.")
    _check_counterfactual(config)


def check_sft(config: SftConfig) -> None:
    """Refuse a supervised run whose settings do not go together. Raises `ConfigError`."""
    if not config.sft.reflection_share + config.sft.guided_share:
        return
    if config.init == "scratch":
        raise ConfigError("sft.reflection_share and sft.guided_share need a policy that plays: set init.")
    if seats_of(config.env.id, config.env.options):
        raise ConfigError(
            f"'{config.env.id}' has several agents: reports and guided retries are of one. "
            "Set sft.reflection_share and sft.guided_share to 0."
        )


def _check_team(config: Config, algorithm: Algorithm, ranks: Ranks) -> None:
    """Refuse settings under `team` that train nothing, or that do not go together with others."""
    team = config.team
    if not team.seats and team.weights == "shared" and not team.pool.share:
        return
    seats = trained_seats(config)
    if team.seats and not seats:
        raise ConfigError("No seat is trained: give at least one under team.seats the policy 'trained'.")
    if team.pool.share:
        _check_pool(config, len(seats), ranks)
    if team.weights == "shared":
        return
    if not seats:
        raise ConfigError(f"team.weights=separate is for several agents; '{config.env.id}' has one. Leave it out.")
    keys = trained_policies(config)
    if len(keys) > 1:
        _check_names(config, keys)
        _check_separate(config, algorithm, ranks)


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


def _check_store(config: Config, algorithm: Algorithm) -> None:
    """Refuse settings of the experience store that leave nothing to train on, or that others contradict."""
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


def _check_experts(config: Config, algorithm: Algorithm) -> None:
    """Refuse demonstrations that nothing imitates, or that there can be none of."""
    number = config.rollout.experts.num
    if algorithm.learns_labels and seats_of(config.env.id, config.env.options):
        raise ConfigError(f"Algorithm '{algorithm.name}' is for environments with one agent. Choose another.")
    if not number:
        return
    if not algorithm.uses_auxiliary:
        raise ConfigError(
            f"rollout.experts.num={number} is for an algorithm that imitates, such as mix; '{algorithm.name}' does not."
        )
    if seats_of(config.env.id, config.env.options):
        raise ConfigError("rollout.experts.num is for environments with one agent: set it to 0.")


def _check_teacher(config: Config, algorithm: Algorithm, ranks: Ranks) -> None:
    """Refuse an algorithm without the teacher that it needs, and a teacher that nothing learns from."""
    teacher = config.algorithm.teacher
    if algorithm.needs_teacher and teacher is None:
        raise ConfigError(
            f"Algorithm '{algorithm.name}' learns from another policy: name one with algorithm.teacher, as policy.path."
        )
    if teacher is not None and not algorithm.needs_teacher:
        raise ConfigError(
            f"algorithm.teacher is for an algorithm that learns from one, such as opd; '{algorithm.name}' does not."
        )
    if algorithm.compares_with_teacher and ranks.is_sharded:
        raise ConfigError(
            f"Algorithm '{algorithm.name}' compares whole distributions, which needs all weights in each process: "
            "write trainer.parallel.strategy=ddp, or algorithm.options.divergence=sampled."
        )


def _check_mode(config: Config) -> None:
    """Refuse settings that contradict the mode: when episodes are played, and with which weights."""
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


def _check_counterfactual(config: Config) -> None:
    """Refuse a strategy that is to replace turns by no-ops where there are none."""
    reads = STRATEGIES.lookup(config.rollout.strategy).reads
    if "team.counterfactual" not in reads or config.team.counterfactual.by != "noop":
        return
    if not has_noop(config.env.id, config.env.options):
        raise ConfigError(f"'{config.env.id}' has no action that does nothing: write team.counterfactual.by=policy.")
