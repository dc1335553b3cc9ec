"""The learners of all processes as one: process 0 says what is done next, and all do it at once.

The functions below the class are those that every process carries out. `columns`, `loss` and `step` are one update of
the policy, in the order in which `train_step` calls them. Log-probs of the policy before the update (`old_logprobs`)
cost an extra forward pass only where they can differ from those of the training pass: with several optimizer steps a
batch (if the surrogate has a ratio at all), or when a stage needs them (or the entropy) first. In the strictly
on-policy single step they are the training pass's own, detached.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agentgym_rft.config.run import Config
from agentgym_rft.rollouts.policies import load_policy_model
from agentgym_rft.store.checkpoint import Checkpoint, checkpoint_at, load_checkpoint
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import DISTRIBUTION_STATS, VALUE
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.entropy_dynamics import WATCHED, dynamics
from agentgym_rft.trainers.learner.learner import Learner, Update, load, make_learner, policy_weights, save
from agentgym_rft.trainers.learner.memory import release_memory
from agentgym_rft.trainers.learner.metrics import batch_metrics, check_drift, merge_metrics, pass_metrics
from agentgym_rft.trainers.learner.objective import accumulate, make_objective, token_indicator
from agentgym_rft.trainers.learner.optimizer import clipped_step, learning_rate, set_learning_rate
from agentgym_rft.trainers.learner.processes import Ranks, local_device, peer_failures_named
from agentgym_rft.trainers.learner.scoring import score_rows


class LearnerGroup:
    """The learners of one policy, as process 0 sees them. One thing is done at a time, whatever thread asks.

    Args:
        shares_model: the sampling policy is the learner's own model, so it needs no other weights than that has.
    """

    def __init__(self, learner: Learner, ranks: Ranks, *, shares_model: bool) -> None:
        self._learner = learner
        self._ranks = ranks
        self._shares_model = shares_model
        self._lock = threading.Lock()

    def columns(self, table: TokenTable, rows: Sequence[Row], step: int) -> TokenTable:
        """Begin an update; returns the table with every column that the loss needs, see the function `columns`."""
        prepared: TokenTable = self._all(columns, table, rows, step)
        return prepared

    def loss(self, part: Sequence[Row]) -> float:
        """Add the gradient of the loss of a minibatch of whole groups; returns the loss."""
        value: float = self._all(loss, frozenset(row.group for row in part))
        return value

    def step(self) -> None:
        """Take the optimizer step of the last loss, see the function `step`."""
        self._all(step)

    def metrics(self) -> dict[str, float]:
        """End an update; returns its metrics."""
        measured: dict[str, float] = self._all(finish)
        return measured

    def weights(self) -> Mapping[str, Tensor]:
        """Return what the sampling policy loads: the model's own weights where it is that model, else whole ones."""
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
        """Tell the other processes that the run is done; they return `result`."""
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


def columns(learner: Learner, table: TokenTable, rows: Sequence[Row], number: int) -> TokenTable:
    """Begin the update of step `number`; returns the table with scores, advantage and mask, on the scorer's device.

    Raises:
        ValueError: the batch has no trained token.
        ConfigError: the algorithm needs a column that is missing.
        TokenMismatchError: re-scored log-probs of on-policy tokens differ from the sampler's by more than
            `trainer.logprob_tolerance` on average.
    """
    if not rows:
        raise ValueError("The batch has no trained token.")
    trainer, algorithm, scorer = learner.config.trainer, learner.algorithm, learner.scorer
    context = Context(step=number, seed=learner.config.run.seed)
    for column, other in (("ref_logprobs", learner.reference), ("teacher_logprobs", learner.teacher)):
        if other is not None and column in algorithm.needs:
            scores = score_rows(other, rows, table.num_tokens, trainer.micro_batch_tokens)
            table = table.with_columns({column: scores.logprobs.cpu()})
    before = learner.probe.before(scorer, table, rows)
    critic = {VALUE} if scorer.value_head else set()
    algorithm.validate(table.names | DISTRIBUTION_STATS.keys() | {"old_logprobs"} | critic)
    table = table.to(scorer.device)
    is_several = trainer.num_minibatches * trainer.num_epochs > 1
    is_anchor = algorithm.surrogate.uses_ratio and algorithm.ratio.anchor == "old_logprobs"
    is_old_asked = is_several and (is_anchor or trainer.entropy_dynamics)
    is_scored = is_old_asked or bool(algorithm.scored_columns)
    drift: dict[str, float] = {}
    if is_scored:
        table = _scored(learner, table, rows)
        drift = check_drift(table, table.columns["old_logprobs"], trainer.logprob_tolerance)
    table = algorithm.prepare(table, context)
    set_learning_rate(learner.optimizer, learning_rate(number, trainer))
    learner.optimizer.zero_grad(set_to_none=True)
    learner.update = Update(table, rows, context, is_scored, before, drift)
    return table


def _scored(learner: Learner, table: TokenTable, rows: Sequence[Row]) -> TokenTable:
    """Return the table with `old_logprobs` and the other columns that a part needs of the policy before the update."""
    trainer, algorithm = learner.config.trainer, learner.algorithm
    watched = WATCHED if trainer.entropy_dynamics else ()
    stats = tuple(dict.fromkeys((*algorithm.stats_named(algorithm.scored_columns), *watched)))
    tokens = trainer.micro_batch_tokens
    scores = score_rows(learner.scorer, rows, table.num_tokens, tokens, stats, value=algorithm.needs_critic)
    return table.with_columns({"old_logprobs": scores.logprobs, **scores.columns})


def loss(learner: Learner, groups: frozenset[int]) -> float:
    """Add the gradient of the loss of some groups' rows; returns the loss. This is the only place that trains.

    Raises:
        TokenMismatchError: as in `columns`, where the policy was not scored there.
    """
    update, trainer = _running(learner), learner.config.trainer
    part = [row for row in update.rows if row.group in groups]
    objective = make_objective(learner.scorer, update.table, part, learner.algorithm, trainer, update.context)
    if trainer.entropy_dynamics and not update.is_scored:
        objective = replace(objective, watched=WATCHED)
    measured, update.has_gradient = accumulate(learner.scorer, objective, part, trainer.micro_batch_tokens)
    inside = token_indicator(update.table, part) > 0
    update.drift = update.drift or check_drift(update.table, measured.logprobs, trainer.logprob_tolerance, inside)
    update.measured = measured
    update.passes.append(pass_metrics(objective, measured, inside))
    return update.passes[-1]["loss/total"]


def step(learner: Learner) -> None:
    """Take the optimizer step of the last loss, unless no token of it has a gradient. Raises NumericsError."""
    update = _running(learner)
    if update.has_gradient:
        norm = clipped_step(learner.optimizer, learner.config.trainer.max_grad_norm)
        update.passes[-1]["grad/norm"] = norm
        update.has_gradient = False


def finish(learner: Learner) -> dict[str, float]:
    """End the update: let controllers see it; returns its metrics, the same in every process."""
    update, trainer, algorithm = _running(learner), learner.config.trainer, learner.algorithm
    learner.update = None
    merged = merge_metrics(update.passes)
    algorithm.observe(update.table, merged)
    measures = batch_metrics(update.table, update.rows)
    if trainer.entropy_dynamics:
        table, measured = update.table, update.measured
        if not update.is_scored and measured is not None:
            table = table.with_columns({"old_logprobs": measured.logprobs, **measured.columns})
        measures |= dynamics(algorithm, table, update.context)
    rate = {"update/learning_rate": learning_rate(update.context.step, trainer)}
    probed = learner.probe.after(learner.scorer, update.before)
    release_memory(learner.scorer.device)
    return {**merged, **update.drift, **measures, **rate, **probed}


def _running(learner: Learner) -> Update:
    assert learner.update is not None, "columns come before loss and step"
    return learner.update


def follow(config: Config, ranks: Ranks) -> Any:
    """Train as process 0 says until it has no more, in every process but that; returns what it returns.

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
    """Return the configuration with the device of this process."""
    policy = config.policy.model_copy(update={"device": local_device(config.policy.device)})
    return config.model_copy(update={"policy": policy})
