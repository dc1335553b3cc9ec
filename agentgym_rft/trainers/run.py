"""A run's directory and its parts: everything that can be refused is refused here, before the first rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.config.run import Config, num_fresh
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import Panel, quoted_split
from agentgym_rft.errors import DataError
from agentgym_rft.evaluation.panel import configured_panel
from agentgym_rft.rollouts.journaled import JournaledPolicy
from agentgym_rft.rollouts.make import make_reflector, make_workers
from agentgym_rft.rollouts.policies import load_policy_model, sampling_dtype, with_frozen
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seats import trained_policies
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.store.run_dir import run_directory
from agentgym_rft.store.stored_groups import GroupStore, open_groups
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.operators import Operator, build_operators
from agentgym_rft.trainers.checks import check_config
from agentgym_rft.trainers.learner.group import LearnerGroup, placed
from agentgym_rft.trainers.learner.learner import make_learner
from agentgym_rft.trainers.learner.per_policy import PolicyLearners, separate_models
from agentgym_rft.trainers.learner.processes import ALONE, Ranks
from agentgym_rft.trainers.sources.base import Source
from agentgym_rft.trainers.sources.explorer import Explorer
from agentgym_rft.trainers.sources.make import (
    keeps_journal,
    make_source,
    plays_trained_model,
    sampling_policy,
)
from agentgym_rft.trainers.sources.opponents import make_pool


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a training step works with.

    The workers' policy samples from the very model that the group trains, or from a copy of it where it may lag behind.
    """

    config: Config
    model: Any
    tokenizer: Any
    workers: Workers
    explorer: Explorer
    source: Source
    panel: Panel | None
    algorithm: Algorithm
    learners: PolicyLearners
    operators: tuple[Operator, ...] = ()
    journaled: JournaledPolicy | None = None  # the policy, where it samples in this process for one batch at a time


def build(config: Config, run_dir: Path | None = None, ranks: Ranks = ALONE) -> Parts:
    """Return all parts of a run, in the process that leads it.

    Raises ConfigError, RegistryError, DataError or CheckpointError for what cannot work.
    """
    algorithm = build_algorithm(config.algorithm)
    check_config(config, algorithm, ranks)
    keys = trained_policies(config)
    operators = build_operators(config.rollout.operators)
    strategy = STRATEGIES.lookup(config.rollout.strategy).play
    load_card(config.agent)  # what is wrong with it is said before the model is loaded
    config, task_ids, panel = _tasks(config)
    model, tokenizer = load_policy_model(placed(config).policy, dtype=torch.float32)
    stored = _stored(config, model)  # what it refuses is said before workers and engines are started
    is_shared = plays_trained_model(config, is_sharded=ranks.is_sharded)
    models = separate_models(model, keys, is_base_frozen=config.trainer.lora.rank > 0)
    policy = _policy(config, models, is_shared=is_shared)
    journaled = JournaledPolicy(policy) if policy is not None and keeps_journal(config) else None
    dtype = sampling_dtype(config.policy, torch.float32)
    workers = make_workers(config, tokenizer, journaled or policy, make_reflector(config), dtype=dtype)
    learners = _learners(config, algorithm, models, tokenizer, ranks, is_shared)
    folder = run_dir or run_directory(config)
    pool = make_pool(config, model, policy, folder) if config.team.pool.share else None
    sampler = _sampler(config, task_ids, stored)
    explorer = Explorer(config, num_fresh(config), workers, strategy, sampler, algorithm, pool)
    return Parts(
        config=config,
        model=model,
        tokenizer=tokenizer,
        workers=workers,
        explorer=explorer,
        source=make_source(config, explorer, stored, tokenizer, folder),
        panel=panel,
        algorithm=algorithm,
        learners=learners,
        operators=operators,
        journaled=journaled,
    )


def _policy(config: Config, models: Mapping[str, Any], *, is_shared: bool) -> Policy | None:
    """Return the policy that plays in this process; None where workers on Ray make their own."""
    if config.rollout.workers == "ray":
        return None
    policies = {key: sampling_policy(config, own, is_shared=is_shared) for key, own in models.items()}
    return with_frozen(config, policies, sampling_dtype(config.policy, torch.float32))


def _sampler(config: Config, task_ids: Sequence[str], stored: GroupStore | None) -> TaskSampler:
    """Return the order of tasks; for stored trajectories, that of their groups."""
    if stored is not None:
        return TaskSampler(stored.keys, config.run.seed)
    return TaskSampler(task_ids, config.run.seed, section=config.rollout.tasks)


def _learners(
    config: Config,
    algorithm: Algorithm,
    models: Mapping[str, Any],
    tokenizer: Any,
    ranks: Ranks,
    is_shared: bool,
) -> PolicyLearners:
    """Return what trains each model. All but the first have an algorithm of their own: its controllers have a state."""
    found = {}
    for number, (key, model) in enumerate(models.items()):
        own = build_algorithm(config.algorithm) if number else algorithm
        learner = make_learner(config, own, model, tokenizer, ranks)
        found[key if len(models) > 1 else ""] = LearnerGroup(learner, ranks, shares_model=is_shared)
    return PolicyLearners(found)


def _stored(config: Config, model: Any) -> GroupStore | None:
    """Return the stored trajectories that the run trains on, if it does.
    Raises DataError for those of another vocabulary.
    """
    path = config.rollout.stored
    if path is None:
        return None
    stored = open_groups(Path(path))
    vocabulary = model.get_input_embeddings().num_embeddings
    if stored.max_token_id >= vocabulary:
        raise DataError(
            f"The trajectories in '{path}' have token {stored.max_token_id}, the policy knows {vocabulary} tokens. "
            "Give those of a policy with the same tokenizer."
        )
    return stored


def _tasks(config: Config) -> tuple[Config, list[str], Panel | None]:
    """Return the configuration with its evaluation split, the training tasks, and the panel held out of them."""
    env = make_env(config.env.id, config.env.options)
    try:
        task_ids = list(env.task_ids(config.env.split))
        split = quoted_split(env, config.eval.split)
        config = config.model_copy(update={"eval": config.eval.model_copy(update={"split": split})})
        panel = configured_panel(env, config, whole_split=True) if config.eval.num_tasks else None
        return config, task_ids, panel
    finally:
        close_env(env)
