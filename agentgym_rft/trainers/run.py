"""A run's directory and its parts: everything that can be refused is refused here, before the first rollout."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import Panel, assert_disjoint, lasting_options, load_panel, quoted_split
from agentgym_rft.errors import ConfigError, DataError, RegistryError, did_you_mean
from agentgym_rft.rollouts.build import load_card, load_policy_model, make_reflector, make_workers
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.strategies import STRATEGIES, Strategy
from agentgym_rft.rollouts.workers import Workers
from agentgym_rft.sections import Config, Section
from agentgym_rft.store.checkpoint import has_checkpoint
from agentgym_rft.store.files import write_atomically
from agentgym_rft.store.stored_groups import StoredGroups
from agentgym_rft.trainers.algorithm import Algorithm
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.explorer import Explorer
from agentgym_rft.trainers.modes import check_mode, sampling_policy, source_of
from agentgym_rft.trainers.optimizer import make_optimizer
from agentgym_rft.trainers.probe import Probe
from agentgym_rft.trainers.scoring import Scorer, make_scorer
from agentgym_rft.trainers.sources import Source, StoredSource
from agentgym_rft.trainers.table import available_columns


@dataclass(frozen=True, slots=True)
class EvaluationPanel:
    """What a run is evaluated on: the panel, the environment's options that matter, the split it is held out of."""

    panel: Panel
    options: Mapping[str, Any]
    held_out_of: str | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a training step works with.

    The workers' policy samples from the very model that `scorer` and `optimizer` train, or from a copy of it where it
    may lag behind.
    """

    config: Config
    model: Any
    tokenizer: Any
    workers: Workers
    explorer: Explorer
    source: Source
    panel: EvaluationPanel | None
    algorithm: Algorithm
    scorer: Scorer
    reference: Scorer | None
    optimizer: torch.optim.Optimizer
    probe: Probe


def build(config: Config) -> Parts:
    """All parts of a run. Raises ConfigError, RegistryError, DataError or CheckpointError for what cannot work."""
    algorithm = build_algorithm(config.algorithm)
    algorithm.validate(available_columns(reference=True, critic=True), config.rollout.group_size)
    check_mode(config)
    strategy = _strategy(config.rollout.strategy)
    if config.rollout.workers != "local":
        raise ConfigError(f"rollout.workers is '{config.rollout.workers}'; this version has 'local' only.")
    load_card(config.agent)  # what is wrong with it is said before the model is loaded
    config, task_ids, panel = _tasks(config)
    model, tokenizer = load_policy_model(config.policy, dtype=torch.float32)
    policy = sampling_policy(config, model)
    workers = make_workers(config, tokenizer, policy, make_reflector(config))
    value_head = make_value_head(model) if algorithm.needs_critic else None
    scorer = make_scorer(model, bf16=config.trainer.bf16, value_head=value_head)
    stored = _stored(config, model)
    reference = make_scorer(deepcopy(model), bf16=config.trainer.bf16) if algorithm.needs_reference else None
    sampler = TaskSampler(task_ids if stored is None else stored.keys, config.run.seed)
    explorer = Explorer(config, workers, strategy, sampler, algorithm)
    return Parts(
        config=config,
        model=model,
        tokenizer=tokenizer,
        workers=workers,
        explorer=explorer,
        source=source_of(explorer) if stored is None else StoredSource(explorer, stored),
        panel=panel,
        algorithm=algorithm,
        scorer=scorer,
        reference=reference,
        optimizer=make_optimizer(
            model if value_head is None else torch.nn.ModuleList([model, value_head]), config.trainer
        ),
        probe=Probe(config.trainer.entropy_probe, config.run.seed, config.trainer.micro_batch_tokens),
    )


def make_value_head(model: Any) -> torch.nn.Linear:
    """A critic's head on the last hidden state of `model`. Every value is 0 at first."""
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device, dtype=model.dtype)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def _stored(config: Config, model: Any) -> StoredGroups | None:
    """The stored trajectories that the run trains on, if it does. Raises DataError for those of another vocabulary."""
    path = config.rollout.stored
    if path is None:
        return None
    stored = StoredGroups(Path(path))
    vocabulary = model.get_input_embeddings().num_embeddings
    if stored.max_token_id >= vocabulary:
        raise DataError(
            f"The trajectories in '{path}' have token {stored.max_token_id}, the policy knows {vocabulary} tokens. "
            "Give those of a policy with the same tokenizer."
        )
    return stored


def _strategy(name: str) -> Strategy:
    if name not in STRATEGIES:
        raise RegistryError(f"No rollout strategy is called '{name}'.{did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name]


def _tasks(config: Config) -> tuple[Config, list[str], EvaluationPanel | None]:
    """The configuration with its evaluation split, training tasks, and the panel, which must share none by content."""
    env = make_env(config.env.id, config.env.options)
    try:
        task_ids = list(env.task_ids(config.env.split))
        split = quoted_split(env, config.eval.split)
        config = config.model_copy(update={"eval": config.eval.model_copy(update={"split": split})})
        if not config.eval.num_tasks:
            return config, task_ids, None
        panel = load_panel(env, split, config.eval.num_tasks, env_id=config.env.id)
        is_held_out = split != config.env.split
        if is_held_out:
            assert_disjoint(env, config.env.split, split)
        options = lasting_options(env, config.env.options)
        return config, task_ids, EvaluationPanel(panel, options, config.env.split if is_held_out else None)
    finally:
        env.close()


def run_directory(config: Config) -> Path:
    """The directory of a run: the given one, or a new one named after environment, algorithm and time."""
    if config.run.out:
        return Path(config.run.out)
    env_name = config.env.id.rpartition("/")[2].rpartition(":")[2].lower()
    return Path("runs") / f"{env_name}-{config.algorithm.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def holds_run(folder: Path) -> bool:
    """True if a run left something in a directory: a finished step, a checkpoint or a model.

    One that was stopped before that can be started anew in the same place.
    """
    metrics = folder / "metrics.jsonl"
    has_steps = metrics.is_file() and metrics.stat().st_size > 0
    return has_steps or (folder / "model").exists() or has_checkpoint(folder / "checkpoints")


@contextmanager
def opened(folder: Path, config: Section, *, is_new: bool) -> Iterator[Path]:
    """The run directory, made if need be, with `config.yaml`, and locked while the run lives.

    Raises:
        ConfigError: it cannot be written, is in use, or is new and holds another run already.
    """
    advice = " Choose another --out." if is_new else ""
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"'{folder}' is a file, expected a directory.{advice}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"Cannot write to '{folder}': {error.strerror}.{advice}") from error
    try:
        _claim(folder, lock, config, is_new)
        yield folder
    finally:
        os.close(lock)


def _claim(folder: Path, lock: int, config: Section, is_new: bool) -> None:
    """Lock the directory and write `config.yaml`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"Another process is writing to '{folder}'. Wait for it, or choose another --out.") from error
    if is_new and holds_run(folder):
        resume = f"Go on with --resume {folder}, or choose" if isinstance(config, Config) else "Choose"
        raise ConfigError(f"'{folder}' holds a run already. {resume} another --out.")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    try:
        write_atomically(folder / "config.yaml", text.encode())
        if is_new:
            shutil.rmtree(folder / "evaluations", ignore_errors=True)  # of a start that finished no step
    except OSError as error:
        raise ConfigError(f"Cannot write to '{folder}': {error.strerror}.") from error
