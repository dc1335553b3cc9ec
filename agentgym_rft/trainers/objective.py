"""The loss of one minibatch as a sum of per-token losses with global weights, one micro-batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.trainers.packing import MicroBatch
from agentgym_rft.trainers.scoring import Scorer, Scores
from agentgym_rft.trainers.stages import Algorithm, LossInputs
from agentgym_rft.trainers.table import Row, TokenTable, segment_sum


@dataclass(frozen=True, slots=True)
class Weights:
    """Global weight of each token in the loss of one minibatch, [N], coefficients included; zero outside it."""

    policy: Tensor
    regularizers: Mapping[str, Tensor]


@dataclass(slots=True)
class Measured:
    """What a pass over a minibatch measured, without gradient. Filled in place; [N], zero outside the minibatch."""

    lp: Tensor
    log_ratio: Tensor
    entropy: Tensor
    is_clipped: Tensor
    losses: dict[str, Tensor]  # scalar sums: policy and one for each regulariser


@dataclass(frozen=True, slots=True)
class Objective:
    """An algorithm's loss over one minibatch of a prepared table.

    `is_fresh`: the ratio's anchor is the training pass itself, so every ratio is 1 and only its gradient matters.
    `unit_log_ratio`: [N] value of the ratio of each token's turn or trajectory, where the ratio has such a unit.
    """

    algorithm: Algorithm
    table: TokenTable
    weights: Weights
    is_fresh: bool
    unit_log_ratio: Tensor | None = None

    def has_gradient(self) -> np.ndarray:
        """Whether each token can have a gradient, [N] bool; exact zeros only, such as groups without signal."""
        live = self.weights.policy != 0
        if self.algorithm.surrogate.scales_with_advantage:
            live = live & (self.table.columns["advantage"] != 0)
        for weight in self.weights.regularizers.values():
            live = live | (weight != 0)
        return live.cpu().numpy()

    def micro_batch(self, scorer: Scorer, batch: MicroBatch, measured: Measured, *, grad: bool) -> Tensor:
        """This micro-batch's share of the loss, a scalar; what it measured goes into `measured`."""
        batch = batch.to(self.table.turn.device)
        entropy_grad = self.algorithm.needs_entropy_grad
        scores = scorer.score(batch, need_entropy=True, grad=grad, entropy_grad=entropy_grad)
        inputs = self._inputs(scores, batch.index)
        token_losses, is_clipped = self.algorithm.surrogate.fn(inputs)
        losses = {"policy": (token_losses * self.weights.policy[batch.index]).sum()}
        for term in self.algorithm.regularizers:
            losses[term.name] = (term.fn(inputs) * self.weights.regularizers[term.name][batch.index]).sum()
        measured.lp[batch.index] = inputs.lp.detach()
        measured.log_ratio[batch.index] = inputs.log_ratio.detach()
        measured.entropy[batch.index] = inputs.entropy.detach()
        measured.is_clipped[batch.index] = is_clipped
        for name, loss in losses.items():
            measured.losses[name] += loss.detach()
        return torch.stack(list(losses.values())).sum()

    def _inputs(self, scores: Scores, index: Tensor) -> LossInputs:
        assert scores.entropy is not None
        if self.is_fresh:
            log_ratio = scores.lp - scores.lp.detach()
        elif self.unit_log_ratio is not None:
            log_ratio = self.unit_log_ratio[index] + scores.lp - scores.lp.detach()
        else:
            log_ratio = scores.lp - self.table.columns[self.algorithm.ratio.anchor][index]
        columns = {name: self.table.token_column(name)[index] for name in self.algorithm.loss_columns}
        return LossInputs(scores.lp, log_ratio, scores.entropy, columns)


def new_measured(algorithm: Algorithm, num_tokens: int, dtype: torch.dtype, device: torch.device) -> Measured:
    """Zeros, to be filled by `Objective.micro_batch`."""
    zeros = torch.zeros(num_tokens, dtype=dtype, device=device)
    names = ["policy", *(term.name for term in algorithm.regularizers)]
    losses = {name: zeros.new_zeros(()) for name in names}
    return Measured(zeros, zeros.clone(), zeros.clone(), torch.zeros_like(zeros, dtype=torch.bool), losses)


def minibatch_weights(algorithm: Algorithm, table: TokenTable, inside: Tensor) -> Weights:
    """Weights whose denominators are counted over the whole minibatch; `inside` [N] is 1 for its tokens, else 0."""
    counted = (table.columns["counted"] > 0).float() * inside
    policy = algorithm.aggregation.fn(table, counted) * table.columns["mask"]
    terms = {}
    for term in algorithm.regularizers:
        keep = inside * (table.token_column(term.mask) > 0) if term.mask else inside
        terms[term.name] = term.coef * algorithm.aggregation.fn(table, keep)
    return Weights(policy, terms)


def token_indicator(table: TokenTable, rows: Sequence[Row]) -> Tensor:
    """1 for the tokens of `rows`, 0 for all others, [N] float32."""
    index = torch.from_numpy(np.concatenate([row.index for row in rows])).to(table.turn.device)
    return torch.zeros(table.num_tokens, device=table.turn.device).index_fill_(0, index, 1.0)


def unit_log_ratio(algorithm: Algorithm, table: TokenTable, lp: Tensor) -> Tensor:
    """Mean of lp - anchor over each token's turn or trajectory (the log of a geometric mean), [N]."""
    key, num = table.turn, table.num_turns
    if algorithm.ratio.unit == "trajectory":
        key, num = table.trajectory, table.num_trajectories
    log_ratio = lp - table.columns[algorithm.ratio.anchor]
    lengths = segment_sum(torch.ones_like(log_ratio), key, num).clamp_min(1)
    return (segment_sum(log_ratio, key, num) / lengths)[key]
