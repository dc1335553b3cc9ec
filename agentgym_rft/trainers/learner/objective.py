"""The loss of a minibatch: a weighted sum of per-token losses. Weights are global, so micro-batches simply add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.trainers.algorithms.base import AUXILIARY, Algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY, DistributionStat
from agentgym_rft.trainers.algorithms.parts import Context, LossInputs, coefficient
from agentgym_rft.trainers.algorithms.units import Unit, unit_mean
from agentgym_rft.trainers.batch.packing import MicroBatch
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.parallelize import backward_pass
from agentgym_rft.trainers.learner.processes import Ranks
from agentgym_rft.trainers.learner.scoring import Scorer, Scores, score_rows


@dataclass(frozen=True, slots=True)
class Weights:
    """Global weight of each token in the loss of one minibatch, [N], coefficients included; zero outside it."""

    policy: Tensor
    regularizers: Mapping[str, Tensor]


@dataclass(slots=True)
class Measured:
    """Values measured in a pass over a minibatch, without gradient.

    Filled in place; [N], zero outside the minibatch.
    """

    logprobs: Tensor
    log_ratio: Tensor
    is_clipped: Tensor
    columns: dict[str, Tensor]  # of the next-token distribution: those that the objective watches
    losses: dict[str, Tensor]  # scalar sums: policy and one for each regulariser


@dataclass(frozen=True, slots=True)
class Objective:
    """An algorithm's loss over one minibatch of a prepared table.

    `is_fresh`: the ratio's anchor is the training pass itself, so every ratio is 1 and only its gradient matters.
    `unit_log_ratios`: for units above the token, the [N] log of the geometric mean ratio of each token's unit.
    `watched`: columns of the next-token distribution that a pass measures beside the loss.
    """

    algorithm: Algorithm
    table: TokenTable
    weights: Weights
    is_fresh: bool
    unit_log_ratios: Mapping[Unit, Tensor]
    watched: tuple[DistributionStat, ...] = (ENTROPY,)

    def has_gradient(self) -> np.ndarray:
        """Return whether each token can have a gradient, [N] bool; exact zeros only, such as groups without signal."""
        live = self.weights.policy != 0
        if self.algorithm.surrogate.scales_with_advantage:
            live = live & (self.table.columns["advantage"] != 0)
        for weight in self.weights.regularizers.values():
            live = live | (weight != 0)
        return live.cpu().numpy()

    def micro_batch(self, scorer: Scorer, batch: MicroBatch, measured: Measured, *, grad: bool) -> Tensor:
        """Return this micro-batch's share of the loss, a scalar; what it measured goes into `measured`."""
        batch = batch.to(self.table.turn.device)
        asked = self.algorithm.grad_functionals
        scores = scorer.score(
            batch,
            tuple(dict.fromkeys((*asked, *self.watched))),
            grad=grad,
            with_grad=[distribution_stat.name for distribution_stat in asked],
            value=self.algorithm.needs_critic,
        )
        inputs = self.inputs(scores, batch.index)
        token_losses, is_clipped = self.algorithm.surrogate.fn(inputs)
        losses = {"policy": (token_losses * self.weights.policy[batch.index]).sum()}
        for term in self.algorithm.regularizers:
            losses[term.name] = (term.fn(inputs) * self.weights.regularizers[term.name][batch.index]).sum()
        measured.logprobs[batch.index] = inputs.logprobs.detach()
        measured.log_ratio[batch.index] = inputs.log_ratio.detach()
        measured.is_clipped[batch.index] = is_clipped
        for distribution_stat in self.watched:
            measured.columns[distribution_stat.name][batch.index] = scores.columns[distribution_stat.name].detach()
        for name, loss in losses.items():
            measured.losses[name] += loss.detach()
        return torch.stack(list(losses.values())).sum()

    def inputs(self, scores: Scores, index: Tensor) -> LossInputs:
        """Return the inputs of the differentiable parts for the tokens `index` [K]."""
        log_ratio, clip_log_ratio = self._log_ratios(scores.logprobs, index)
        columns = {name: self.table.token_column(name)[index] for name in self.algorithm.loss_columns}
        return LossInputs(scores.logprobs, log_ratio, clip_log_ratio, scores.columns, columns)

    def _log_ratios(self, logprobs: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens' log-ratios with gradient, and those that bounds judge, without."""
        if self.is_fresh:
            log_ratio = logprobs - logprobs.detach()
            return log_ratio, log_ratio.detach()
        ratio = self.algorithm.ratio
        own = logprobs - self.table.columns[ratio.anchor][index]
        log_ratio = (
            own if ratio.unit == "token" else self.unit_log_ratios[ratio.unit][index] + logprobs - logprobs.detach()
        )
        judged = own if ratio.clip_unit == "token" else self.unit_log_ratios[ratio.clip_unit][index]
        return log_ratio, judged.detach()


def make_objective(
    scorer: Scorer, table: TokenTable, rows: Sequence[Row], algorithm: Algorithm, cfg: TrainerSection, context: Context
) -> Objective:
    """Return the loss of one minibatch of a prepared table.

    A ratio over turns or trajectories first needs the log-probs of whole units.
    """
    weights = minibatch_weights(algorithm, table, token_indicator(table, rows), context)
    is_single = cfg.num_minibatches * cfg.num_epochs == 1
    is_fresh = algorithm.ratio.anchor == "old_logprobs" and (is_single or "old_logprobs" not in table.columns)
    units: set[Unit] = {algorithm.ratio.unit, algorithm.ratio.clip_unit}
    log_ratios: dict[Unit, Tensor] = {}
    if not is_fresh and units != {"token"}:
        logprobs = score_rows(scorer, rows, table.num_tokens, cfg.micro_batch_tokens).logprobs
        log_ratios = {unit: unit_log_ratio(algorithm, table, logprobs, unit) for unit in units if unit != "token"}
    return Objective(algorithm, table, weights, is_fresh, log_ratios)


def accumulate(scorer: Scorer, objective: Objective, rows: Sequence[Row], tokens: int) -> tuple[Measured, bool]:
    """Add the gradient of a minibatch's loss, micro-batch by micro-batch; returns what was measured, and if it has any.

    Rows without a token that has a gradient (groups without signal) are only scored, for the metrics.
    """
    measured = new_measured(objective, scorer.dtype)
    token_has_gradient = objective.has_gradient()
    trained = [row for row in rows if token_has_gradient[row.index].any()]
    scored = [row for row in rows if not token_has_gradient[row.index].any()]
    batches = scorer.deal(trained, tokens)
    for number, batch in enumerate(batches):
        with backward_pass(scorer, batch, is_last=number == len(batches) - 1):
            loss = _loss(scorer, objective, batch, measured)
            loss.backward()  # type: ignore[no-untyped-call]
    for batch in scorer.deal(scored, tokens):
        if batch is None:
            scorer.idle(grad=False, value=objective.algorithm.needs_critic)
        else:
            objective.micro_batch(scorer, batch, measured, grad=False)
    return summed(measured, scorer.ranks), bool(trained)


def _loss(scorer: Scorer, objective: Objective, batch: MicroBatch | None, measured: Measured) -> Tensor:
    """Return this micro-batch's share of the loss; 0 for a pass without rows."""
    if batch is not None:
        return objective.micro_batch(scorer, batch, measured, grad=True)
    loss = scorer.idle(grad=True, value=objective.algorithm.needs_critic)
    assert loss is not None
    return loss


def new_measured(objective: Objective, dtype: torch.dtype) -> Measured:
    """Return zeros, to be filled by `Objective.micro_batch`."""
    zeros = torch.zeros(objective.table.num_tokens, dtype=dtype, device=objective.table.turn.device)
    columns = {distribution_stat.name: zeros.clone() for distribution_stat in objective.watched}
    names = ["policy", *(term.name for term in objective.algorithm.regularizers)]
    losses = {name: zeros.new_zeros(()) for name in names}
    return Measured(zeros, zeros.clone(), torch.zeros_like(zeros, dtype=torch.bool), columns, losses)


def summed(measured: Measured, ranks: Ranks) -> Measured:
    """Return the measurements of all processes, merged: each token was measured by the process that had it."""
    if ranks.size == 1:
        return measured
    logprobs, log_ratio, is_clipped, *rest = ranks.sum(
        [
            measured.logprobs,
            measured.log_ratio,
            measured.is_clipped.to(measured.logprobs.dtype),
            *measured.columns.values(),
            *measured.losses.values(),
        ]
    )
    columns = dict(zip(measured.columns, rest, strict=False))
    losses = dict(zip(measured.losses, rest[len(columns) :], strict=True))
    return Measured(logprobs, log_ratio, is_clipped > 0, columns, losses)


def minibatch_weights(algorithm: Algorithm, table: TokenTable, inside: Tensor, context: Context) -> Weights:
    """Return weights whose denominators are counted over the whole minibatch; `inside` [N] is 1 for its tokens, else
    0.
    """
    counted = (table.columns["counted"] > 0).float() * inside
    policy = algorithm.aggregation.fn(table, counted) * table.columns["mask"]
    main = 1 - table.token_column(AUXILIARY).float()
    terms = {}
    for term in algorithm.regularizers:
        keep = inside * (main if term.mask is None else (table.token_column(term.mask) > 0).float())
        terms[term.name] = coefficient(term.coef, context) * algorithm.aggregation.fn(table, keep)
    return Weights(policy, terms)


def token_indicator(table: TokenTable, rows: Sequence[Row]) -> Tensor:
    """Return 1 for the tokens of `rows`, 0 for all others, [N] float32."""
    index = torch.from_numpy(np.concatenate([row.index for row in rows])).to(table.turn.device)
    return torch.zeros(table.num_tokens, device=table.turn.device).index_fill_(0, index, 1.0)


def unit_log_ratio(algorithm: Algorithm, table: TokenTable, logprobs: Tensor, unit: Unit) -> Tensor:
    """Return mean of logprobs - anchor over each token's turn or trajectory (the log of a geometric mean), [N]."""
    return unit_mean(logprobs - table.columns[algorithm.ratio.anchor], table, unit)
