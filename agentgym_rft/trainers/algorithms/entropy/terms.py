"""Entropy controls in the differentiable part of the loss: columns, loss terms and surrogates.

A decision about a whole turn, trajectory or batch is taken once, under the policy before the update, and passed to the
loss as a column. With one optimizer step a batch this is exact. Further steps still use the first decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.entropy.draws import token_draws
from agentgym_rft.trainers.algorithms.entropy.filters import chosen_units, largest
from agentgym_rft.trainers.algorithms.entropy.statistics import (
    counted_mean,
    counted_sum,
    counted_units,
    covariance,
    equal_units,
    main_tokens,
    observations,
    quantile,
    segment_quantile,
)
from agentgym_rft.trainers.algorithms.parts import (
    Aggregation,
    Coefficient,
    Context,
    LossInputs,
    Regularizer,
    Stage,
    Surrogate,
)
from agentgym_rft.trainers.algorithms.regularizers import kl_estimate
from agentgym_rft.trainers.algorithms.units import Unit, first_of_unit, unit_mean
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

ENTROPY = frozenset({"entropy"})
ROUNDING = 1e-4  # nats; two scorings of the same token by the same weights differ by less
Among = Literal["all", "negative"]
Phase = Literal["constant", "rising", "released"]


def unit_weights(name: str, unit: Unit) -> Stage:
    """Return the column `<name>_weight` that makes a mean over tokens one over units (`equal_units`)."""
    column = f"{name}_weight"

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        return {column: equal_units(table, unit)}

    return Stage(column, fn, frozenset({"auxiliary"}), frozenset({column}))


def mean_entropy(name: str, coef: float | Coefficient) -> Regularizer:
    """Return -coef * entropy, every unit the same: needs the column `<name>_weight`."""
    column = f"{name}_weight"

    def fn(inputs: LossInputs) -> Tensor:
        return -inputs.distribution_stats["entropy"] * inputs.columns[column]

    return Regularizer(name, fn, coef, frozenset({column}), ENTROPY)


def measured_entropy(name: str) -> Stage:
    """Return a stage without a column that makes the entropy before the update part of the table, for a controller."""
    return Stage(name, lambda table, context: {}, ENTROPY, frozenset())


def covariant_units(percent: float, unit: Unit) -> Stage:
    """Return the column `kl_cov`: 1 for the `percent` per cent (not share) of units with the largest covariance, else
    0.

    max(1, floor(units percent / 100)) are chosen. Above tokens the covariance is summed.
    Source: KL-Cov, arXiv 2505.22617 section 4; PRIME-RL/Entropy-Mechanism-of-RL core_algos.py.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        scores = counted_sum(covariance(table), table, unit)
        units = counted_units(table, unit)
        limit = max(1, int(percent * int(units.sum()) / 100 + 1e-9))
        return {"kl_cov": chosen_units(largest(scores, units, limit, token_draws(table, context)), table, unit)}

    return Stage("kl_cov", fn, frozenset({"old_logprobs", "advantage"}), frozenset({"kl_cov"}))


def covariant_penalty(coef: float) -> Regularizer:
    """Return coef * |logprobs - old_logprobs| on the tokens of the column `kl_cov`, in a mean over all tokens.

    The size of the log-ratio stands for the KL to the policy before the update. It acts from the second optimizer step
    of a batch on: in the first one the difference is rounding, whose sign would be a gradient as large as any other, so
    that differences below `ROUNDING` count as none. Source: as `covariant_units`.
    """

    def fn(inputs: LossInputs) -> Tensor:
        size = (inputs.logprobs - inputs.columns["old_logprobs"]).abs()
        return torch.where(size > ROUNDING, size, 0.0) * inputs.columns["kl_cov"]

    return Regularizer("kl_cov", fn, coef, frozenset({"kl_cov", "old_logprobs"}))


def unclipped(inner: Surrogate) -> Surrogate:
    """Return a clipped surrogate without its bounds: -r A on the tokens that they would stop.

    Source: the policy loss of KL-Cov, arXiv 2505.22617 section 4.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss, stopped = inner.fn(inputs)
        unbounded = -inputs.log_ratio.exp() * inputs.columns["advantage"]
        return torch.where(stopped, unbounded, loss), torch.zeros_like(stopped)

    return replace(inner, name="unclipped", fn=fn, stops_gradient=False)


def entropy_band(low: float, high: float, means: Callable[[TokenTable], Tensor], unit: Unit) -> Stage:
    """Return EPO's band of entropy:

    `epo_low` and `epo_high` are `low` and `high` times the mean so far at the turn number.

    Without a mean so far there is no bound. Above tokens the bounds are the unit's means, and the stage judges the
    unit's mean entropy: `epo_side` is 1 above the band, -1 below, 0 inside, times the weight of the unit.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        middle = means(table)
        bounds = {
            "epo_low": unit_mean((low * middle).nan_to_num(0.0), table, unit),
            "epo_high": unit_mean((high * middle).nan_to_num(torch.inf), table, unit),
        }
        entropy = unit_mean(table.columns["entropy"].double(), table, unit)
        side = (entropy > bounds["epo_high"]).double() - (entropy < bounds["epo_low"]).double()
        return {**bounds, "epo_side": side * equal_units(table, unit)}

    return Stage("epo", fn, frozenset({"entropy", "position"}), frozenset({"epo_low", "epo_high", "epo_side"}))


def phase_weight(phase: Phase, start: float, steps: int) -> Coefficient:
    """Return EPO's factor on the band's penalty as a function of the step (from 0).

    `rising` (the paper's direction): start ** (1 - step / steps), so exponentially from `start` to 1. `released` (the
    code's): 1 - 0.2 (1 - e^-2x) over the first half of `steps`, then 0.8 e^-3y, with x and y from 0 to 1 in each half.
    Source: EPO, arXiv 2509.22576; WujiangXu/EPO dp_actor.py.
    """

    def weight(context: Context) -> float:
        done = min(context.step / steps, 1.0)
        if phase == "constant":
            return 1.0
        if phase == "rising":
            return float(start ** (1 - done))
        return 1 - 0.2 * (1 - math.exp(-4 * done)) if done <= 0.5 else 0.8 * math.exp(-6 * (done - 0.5))

    return weight


def outside_band(coef: Coefficient, unit: Unit) -> Regularizer:
    """Return coef * how far entropy is outside its band: max(0, low - H) + max(0, H - high), with a gradient.

    Tokens are judged as they are now; the mean of a turn or trajectory as it was before the update (`entropy_band`).
    Source: EPO, arXiv 2509.22576, whose released code has a constant instead of the distance, so no gradient.
    """

    def token(inputs: LossInputs) -> Tensor:
        entropy = inputs.distribution_stats["entropy"]
        return (inputs.columns["epo_low"] - entropy).relu() + (entropy - inputs.columns["epo_high"]).relu()

    def whole(inputs: LossInputs) -> Tensor:
        side = inputs.columns["epo_side"]
        bound = torch.where(side > 0, inputs.columns["epo_high"], inputs.columns["epo_low"])
        return side * (inputs.distribution_stats["entropy"] - bound)

    needs = frozenset({"epo_low", "epo_high", "epo_side"})
    return Regularizer("epo_band", token if unit == "token" else whole, coef, needs, ENTROPY)


def peak_weights(table: TokenTable, column: str, q: float, unit: Unit) -> Tensor:
    """Return weight of each token in SIREN's entropy, [N] float64; they sum to 1, or are all 0 where nothing is a peak.

    Peaks are the units whose mean of `column` is above the q-quantile of the units of their trajectory. The weighted
    sum is the mean over peak tokens, then over the trajectories that have any.
    Source: SIREN, arXiv 2509.25133; Linn3a/siren dp_actor.py.
    """
    main = main_tokens(table)
    values = unit_mean(table.columns[column].double(), table, unit)
    units = (first_of_unit(table, unit) > 0) & (main > 0)
    limits = segment_quantile(values[units], table.trajectory[units], table.num_trajectories, q)
    peaks = main * (values > limits[table.trajectory])
    counts = segment_sum(peaks, table.trajectory, table.num_trajectories)
    return peaks / counts.clamp_min(1)[table.trajectory] / (counts > 0).sum().clamp_min(1)


def peak_entropy(table: TokenTable, column: str, q: float, unit: Unit) -> float:
    """Return SIREN's entropy of the batch: `column` weighed by `peak_weights`, nats."""
    return float((peak_weights(table, column, q, unit) * table.columns[column].double()).sum())


def anchored(column: str, q: float, unit: Unit, aggregation: Aggregation, anchor: Callable[[], float | None]) -> Stage:
    """Return slope and value of (peak entropy - anchor)^2 at each token: columns `siren_slope` and `siren_value`.

    They undo the aggregation's own weights, so that the sum over the batch is the square, whatever the mean of the
    policy loss. Zero without an anchor.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        weights = peak_weights(table, column, q, unit)
        own = aggregation.fn(table, main_tokens(table))
        weights = torch.where(own > 0, weights / own, 0.0)
        target = anchor()
        off = 0.0 if target is None else peak_entropy(table, column, q, unit) - target
        return {"siren_slope": 2 * off * weights, "siren_value": off**2 * weights}

    needs = frozenset({column, "auxiliary"})
    return Stage("siren", fn, needs, frozenset({"siren_slope", "siren_value"}))


def anchoring(column: str, coef: float) -> Regularizer:
    """Return coef * (peak entropy - anchor)^2, to first order around the policy before the update.

    Source: SIREN, arXiv 2509.25133.
    """

    def fn(inputs: LossInputs) -> Tensor:
        change = inputs.distribution_stats[column] - inputs.columns[column]
        return inputs.columns["siren_slope"] * change + inputs.columns["siren_value"]

    return Regularizer("siren", fn, coef, frozenset({column, "siren_slope", "siren_value"}), frozenset({column}))


def denoised_target(kept: str, kappa: float, share: float, among: Among) -> Stage:
    """Return Lp-Reg's tokens and target: columns `lp_reg` (1 where active) and `lp_reg_target` (log-prob of the proxy).

    The proxy is the policy before the update without tokens of at most `kappa` times the largest probability, made to
    sum to 1. Active: A < 0, kept by the proxy, and less probable than the `share`-quantile of sampled tokens; `among`
    negative (the released code): of those with A < 0. Source: arXiv 2510.03222; CarlanLark/Lp-Reg-dev core_algos.py.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        logprobs = table.columns["old_logprobs"].double()
        is_negative = (table.columns["advantage"] < 0) & (main_tokens(table) > 0)
        pool = is_negative if among == "negative" else main_tokens(table) > 0
        limit = quantile(logprobs[pool], share) if pool.any() else -torch.inf
        is_kept = logprobs.exp() > kappa * table.columns["max_prob"].double()
        active = is_negative & is_kept & (logprobs < limit)
        return {"lp_reg": active.float(), "lp_reg_target": logprobs - table.columns[kept].double().log()}

    needs = frozenset({"old_logprobs", "advantage", "max_prob", kept})
    return Stage("lp_reg", fn, needs, frozenset({"lp_reg", "lp_reg_target"}))


def denoised_kl(coef: float) -> Regularizer:
    """Return coef * KL(proxy || policy) on active tokens that the proxy finds more probable, in a mean over all tokens.

    The k3 estimate from the sampled token; its gradient raises the token. Source: as `denoised_target`.
    """

    def fn(inputs: LossInputs) -> Tensor:
        target = inputs.columns["lp_reg_target"]
        is_active = (inputs.columns["lp_reg"] > 0) & (inputs.logprobs.detach() < target)
        return torch.where(is_active, kl_estimate(inputs.logprobs, target, "k3"), 0.0)

    return Regularizer("lp_reg", fn, coef, frozenset({"lp_reg", "lp_reg_target"}))


def uncertain_units(unit: Unit) -> Stage:
    """Return the column `agentic_clip`: 1 for units whose entropy is above the mean over all units, else 0."""

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        values = counted_mean(table.columns["entropy"], table, unit)
        mean, _ = observations(values, counted_units(table, unit))
        return {"agentic_clip": (values > mean).float()}

    return Stage("agentic_clip", fn, ENTROPY, frozenset({"agentic_clip"}))


def preserving_upper(inner: Surrogate, *, gated: bool) -> Surrogate:
    """Return a clipped surrogate whose upper bound keeps a gradient: where A > 0 and r > high, value -high A and
    gradient -high A grad logprobs instead of none. With `gated` only where the column `agentic_clip` is 1.

    Source: AEPO, arXiv 2510.14545 section 3.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss, stopped = inner.fn(inputs)
        kept = stopped & (inputs.columns["advantage"] > 0)
        if gated:
            kept = kept & (inputs.columns["agentic_clip"] > 0)
        one = (inputs.log_ratio - inputs.log_ratio.detach()).exp()
        return torch.where(kept, loss.detach() * one, loss), stopped

    needs = inner.needs | ({"agentic_clip"} if gated else frozenset())
    return replace(inner, name="gradient_preserving", fn=fn, needs=needs, stops_gradient=False)
