"""Policy losses of single tokens, and the weights with which they are summed.

A surrogate never takes a mean. The aggregation gives each token its weight from counts over the whole batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.parts import Aggregation, Bounds, LossInputs, Surrogate
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum


def fixed_bounds(clip_low: float, clip_high: float) -> Bounds:
    """Return 1 - clip_low and 1 + clip_high, for every token. Separate bounds: DAPO, arXiv 2503.14476 eq. 10."""
    return Bounds("fixed", lambda inputs: (1 - clip_low, 1 + clip_high))


def is_outside(inputs: LossInputs, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return tokens that PPO's bounds stop, [K] bool: ratio above `high` with A > 0, or below `low` with A < 0."""
    advantage, ratio = inputs.columns["advantage"], inputs.clip_log_ratio.exp()
    return ((advantage > 0) & (ratio > high)) | ((advantage < 0) & (ratio < low))


def clipped(bounds: Bounds) -> Surrogate:
    """Return -min(r A, clip(r, low, high) A) per token: where a bound stops it, the bounded value without gradient.

    Source: PPO, arXiv 1707.06347 eq. 7.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        low, high = bounds.fn(inputs)
        ratio = inputs.log_ratio.exp()
        stopped = is_outside(inputs, low, high)
        bounded = ratio.detach().clamp(low, high)  # type: ignore[arg-type]
        return -torch.where(stopped, bounded, ratio) * inputs.columns["advantage"], stopped

    return Surrogate("clipped", fn, bounds.needs | {"advantage"}, stops_gradient=True)


def cispo(bounds: Bounds) -> Surrogate:
    """Return -sg(clip(r, low, high)) A log-prob per token: bounds limit the weight of a token and never drop it.

    They hold whatever the sign of A. Source: CISPO, arXiv 2506.13585.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        low, high = bounds.fn(inputs)
        ratio, judged = inputs.log_ratio.detach().exp(), inputs.clip_log_ratio.exp()
        is_bounded = (judged > high) | (judged < low)
        weight = torch.where(is_bounded, ratio.clamp(low, high), ratio)  # type: ignore[arg-type]
        return -weight * inputs.columns["advantage"] * inputs.logprobs, is_bounded

    return Surrogate("cispo", fn, bounds.needs | {"advantage"})


def gppo(bounds: Bounds) -> Surrogate:
    """Return PPO's clipped value per token, with a gradient also where a bound stops it: that of the bound times A.

    Source: GPPO, arXiv 2508.07629; compute_gppo_loss of suu990901/KlearReasoner.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        low, high = bounds.fn(inputs)
        ratio = inputs.log_ratio.exp()
        stopped = is_outside(inputs, low, high)
        bounded = ratio.detach().clamp(low, high)  # type: ignore[arg-type]
        one = (inputs.log_ratio - inputs.log_ratio.detach()).exp()
        return -torch.where(stopped, bounded * one, ratio) * inputs.columns["advantage"], stopped

    return Surrogate("gppo", fn, bounds.needs | {"advantage"})


def scaled(inner: Surrogate, factor: float) -> Surrogate:
    """Return another surrogate times a constant."""

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss, is_clipped = inner.fn(inputs)
        return factor * loss, is_clipped

    return replace(inner, fn=fn)


def dual_clip(inner: Surrogate, limit: float) -> Surrogate:
    """Return another surrogate, but the constant -limit A where A < 0 and the ratio is above `limit` > 1.

    Source: Ye et al. 2020, arXiv 1912.09729 (dual-clip PPO).
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss, is_clipped = inner.fn(inputs)
        advantage = inputs.columns["advantage"]
        stopped = (advantage < 0) & (inputs.clip_log_ratio.exp() > limit)
        return torch.where(stopped, -limit * advantage, loss), is_clipped | stopped

    return replace(inner, name=f"dual_clip_{inner.name}", fn=fn)


def topr(*, product: bool) -> Surrogate:
    """Return -sg(w) A log-prob per token: w is 1 for A >= 0, and the ratio cut to [0, 1] for A < 0.

    So successes are imitated however unlikely they have become, and failures fade once they are unlikely. The ratio is
    the product over the token's unit (with `product`; column `unit_tokens`), or its geometric mean.
    Source: TOPR, arXiv 2503.14286.
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        log_ratio = inputs.log_ratio.detach()
        if product:
            log_ratio = log_ratio * inputs.columns["unit_tokens"]
        is_negative = inputs.columns["advantage"] < 0
        weight = torch.where(is_negative, log_ratio.clamp_max(0).exp(), 1.0)
        return -weight * inputs.columns["advantage"] * inputs.logprobs, is_negative & (log_ratio > 0)

    return Surrogate("topr", fn, frozenset({"advantage", "unit_tokens"} if product else {"advantage"}))


def shaped_off_context(surrogate: Surrogate, gamma: float) -> Surrogate:
    """Return another surrogate on most tokens; -A p / (p + gamma) on those sampled under guidance that their row lacks.

    p is the token's probability without the guidance. The gradient weight of log p, A gamma p / (p + gamma)^2, is
    largest at p = gamma: unlikely tokens of a good refinement count more than those already learnt.
    Source: Critique-GRPO, arXiv 2506.03106 (policy shaping).
    """

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss, is_clipped = surrogate.fn(inputs)
        refined = inputs.columns["off_context"] > 0
        prob = inputs.logprobs.exp()
        shaped = -inputs.columns["advantage"] * prob / (prob + gamma)
        return torch.where(refined, shaped, loss), is_clipped & ~refined

    needs = surrogate.needs | {"advantage", "off_context"}
    return Surrogate(f"shaped_{surrogate.name}", fn, needs, stops_gradient=surrogate.stops_gradient)


def reinforce(scale: float = 1.0) -> Surrogate:
    """Return -scale * A * log-prob per token: no ratio, no bound. Source: REINFORCE, Williams 1992."""

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss = -scale * inputs.columns["advantage"] * inputs.logprobs
        return loss, torch.zeros_like(loss, dtype=torch.bool)

    return Surrogate("reinforce", fn, uses_ratio=False)


def nothing() -> Surrogate:
    """Return a policy loss of 0, for algorithms whose whole loss is a term beside it."""

    def fn(inputs: LossInputs) -> tuple[Tensor, Tensor]:
        loss = torch.zeros_like(inputs.logprobs)
        return loss, torch.zeros_like(loss, dtype=torch.bool)

    return Surrogate("nothing", fn, needs=frozenset(), uses_ratio=False)


def token_mean() -> Aggregation:
    """Every counted token weighs the same: 1 / number of counted tokens."""

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        return counted / counted.sum().clamp_min(1)

    return Aggregation("token_mean", fn)


def sequence_mean() -> Aggregation:
    """Return mean over the counted tokens of a trajectory, then over the trajectories that have any."""

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        lengths = segment_sum(counted, table.trajectory, table.num_trajectories)
        num_trajectories = (lengths > 0).sum().clamp_min(1)
        return counted / (lengths.clamp_min(1)[table.trajectory] * num_trajectories)

    return Aggregation("sequence_mean", fn)


def fixed_length(length: int) -> Aggregation:
    """Return sum over a trajectory's tokens divided by a constant length, then mean over trajectories.

    Source: Dr. GRPO, arXiv 2503.20783 section 3.2.
    """

    def fn(table: TokenTable, counted: Tensor) -> Tensor:
        lengths = segment_sum(counted, table.trajectory, table.num_trajectories)
        return counted / (length * (lengths > 0).sum().clamp_min(1))

    return Aggregation("fixed_length", fn)
