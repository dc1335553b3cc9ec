"""Several learners as one: process 0 says what is done next, and all do it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agentgym_rft.config.run import Config
from agentgym_rft.core import Group
from agentgym_rft.rollouts.policies import load_policy_model
from agentgym_rft.store.checkpoint import Checkpoint, checkpoint_at, load_checkpoint
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.learner import Learner, learn, load, make_learner, policy_weights, save
from agentgym_rft.trainers.learner.processes import Ranks, local_device, peer_failures_named


class LearnerGroup:
    """The learners of all processes, as process 0 sees them. One thing is done at a time, whatever thread asks.

    Args:
        shares_model: the sampling policy is the learner's own model, so it needs no other weights than that has.
    """

    def __init__(self, learner: Learner, ranks: Ranks, *, shares_model: bool) -> None:
        self._learner = learner
        self._ranks = ranks
        self._shares_model = shares_model
        self._lock = threading.Lock()

    def train(self, groups: Sequence[Group], step: int) -> dict[str, float]:
        """Train on groups without errored trajectories; returns the metrics of the step, none if there is no token."""
        table, rows = build_table(groups, step, auxiliary=self._learner.algorithm.uses_auxiliary)
        metrics: dict[str, float] = self._all(learn, table, rows, step) if rows else {}
        return metrics

    def weights(self) -> Mapping[str, Tensor]:
        """The weights for the sampling policy: the model's own where it is that model, else the policy's whole ones."""
        if self._shares_model:
            own: Mapping[str, Tensor] = self._learner.model.state_dict()
            return own
        if not self._ranks.is_sharded:  # all here
            return policy_weights(self._learner)
        gathered: Mapping[str, Tensor] = self._all(policy_weights)
        return gathered

    def save(self, folder: Path, step: int, state: Mapping[str, Any], keep: int) -> None:
        """Write a checkpoint of the learners and of `state`. Raises StorageError."""
        self._all(save, folder, step, state, keep)

    def restore(self, folder: Path, step: int | None = None) -> Checkpoint:
        """Put a checkpoint of a folder back: that of a step, or the newest good one. Raises CheckpointError."""
        checkpoint = load_checkpoint(folder) if step is None else checkpoint_at(folder, step)
        self._all(load, checkpoint)
        return checkpoint

    def dismiss(self, result: Any) -> None:
        """The others are done, and return `result`."""
        self._ranks.dismiss((None, result))

    def _all(self, command: Callable[..., Any], *args: Any) -> Any:
        with self._lock, peer_failures_named():
            device = self._learner.scorer.device
            if device.type == "cuda":
                torch.cuda.set_device(device)  # holds for one thread
            self._ranks.order((command, args))
            result = command(self._learner, *args)
            self._ranks.ready()
            return result


def follow(config: Config, ranks: Ranks) -> Any:
    """Every process but the first: train as process 0 says until it has no more; returns what it returns.

    Ctrl-C is process 0's to handle.

    Raises:
        ParallelError: process 0 failed or ended.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    algorithm = build_algorithm(config.algorithm)
    model, tokenizer = load_policy_model(placed(config).policy, dtype=torch.float32)
    learner = make_learner(config, algorithm, model, tokenizer, ranks)
    while True:
        command, argument = ranks.await_order()
        if isinstance(argument, Exception):
            raise argument
        if command is None:
            return argument
        with peer_failures_named():
            command(learner, *argument)


def placed(config: Config) -> Config:
    """The configuration with the device of this process."""
    policy = config.policy.model_copy(update={"device": local_device(config.policy.device)})
    return config.model_copy(update={"policy": policy})
