"""Entropy controls that drop or weight tokens of the policy loss.

Statistics are over those units of the global batch that no earlier filter dropped, under the policy before the update.
The authors' code of Clip-Cov and STEER takes them over each micro-batch, under the current policy.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.entropy.draws import token_draws
from agentgym_rft.trainers.algorithms.entropy.statistics import (
    FLAT,
    centred_discriminator,
    counted_mean,
    counted_sum,
    counted_units,
    covariance,
    discriminator,
    observations,
    quantile,
)
from agentgym_rft.trainers.algorithms.parts import Context, TokenFilter
from agentgym_rft.trainers.algorithms.units import Unit, unit_sum
from agentgym_rft.trainers.batch.table import TokenTable

Sides = Literal["both", "negative"]
Shape = Literal["exponential", "linear"]
SMALLEST_SCALE = 0.02  # STEER's floor of the largest |Omega|


def clip_b(mu: float, sides: Sides, unit: Unit) -> TokenFilter:
    """Drop units whose discriminator S is more than `mu` standard deviations from the batch's mean.

    `both` (the paper): keep iff |S - mean| <= mu sigma. `negative` (the released code): keep all A >= 0; for A < 0 keep
    iff S - mean >= -mu sigma. Above tokens, S is summed and A averaged over the unit. Dropped tokens leave the
    denominator. The released code takes log-probs from the sampler and entropies from the trainer, this one both from
    the trainer. Source: arXiv 2602.03392 section 4; hiyuchang/Trinity-RFT clipb_advantage.py.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        scores = counted_sum(discriminator(table), table, unit)
        mean, sigma = observations(scores, counted_units(table, unit))
        if sigma < FLAT:
            return torch.ones_like(table.columns["counted"])
        deviation = scores - mean
        if sides == "both":
            return (deviation.abs() <= mu * sigma).float()
        return ((counted_mean(table.columns["advantage"], table, unit) >= 0) | (deviation >= -mu * sigma)).float()

    return TokenFilter("clip_b", fn, frozenset({"old_logprobs", "entropy", "advantage"}), shrinks_denominator=True)


def clip_v(mu: float, sides: Sides, max_frac: float, unit: Unit) -> TokenFilter:
    """Drop units whose D = S - N is larger than `mu` standard deviations of D; D is not re-centred.

    `both` (the paper): keep iff |D| <= mu sigma. `negative` (the released code): keep A > 0; for A <= 0 keep iff
    -D <= mu sigma, but drop at most a share `max_frac` of all units (and at least one), largest -D first. There the
    released code never gives back a token of A = 0; here the cap holds for those, too. Above tokens, D is summed and A
    averaged over the unit. Dropped tokens leave the denominator.
    Source: arXiv 2602.03392 section 4; hiyuchang/Trinity-RFT clipv_advantage.py.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        scores = counted_sum(centred_discriminator(table), table, unit)
        units = counted_units(table, unit)
        _, sigma = observations(scores, units)
        if sigma < FLAT:
            return torch.ones_like(table.columns["counted"])
        if sides == "both":
            return (scores.abs() <= mu * sigma).float()
        advantage = counted_mean(table.columns["advantage"], table, unit)
        violating = units & (advantage <= 0) & (-scores > mu * sigma)
        limit = max(1, _share(max_frac, int(units.sum())))
        return 1 - chosen_units(largest(-scores, violating, limit, token_draws(table, context)), table, unit)

    needs = frozenset({"old_logprobs", "entropy", "mean_discriminator", "advantage"})
    return TokenFilter("clip_v", fn, needs, shrinks_denominator=True)


def clip_cov(ratio: float, low: float, high: float, unit: Unit) -> TokenFilter:
    """Drop a few random units among those whose covariance is inside (low, high).

    min(candidates, max(1, floor(ratio units))) are dropped. Above tokens the covariance is summed. Dropped tokens stay
    in the denominator. The choice is by `token_draws`. The released code leaves tokens that PPO's bounds stop out of
    the candidates; at the start of the update, where this choice is made, there are none.
    Source: arXiv 2505.22617 section 4; PRIME-RL/Entropy-Mechanism-of-RL core_algos.py.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        scores = counted_sum(covariance(table), table, unit)
        units = counted_units(table, unit)
        candidates = units & (scores > low) & (scores < high)
        limit = max(1, _share(ratio, int(units.sum())))
        draws = token_draws(table, context)
        return 1 - chosen_units(largest(torch.zeros_like(scores), candidates, limit, draws), table, unit)

    return TokenFilter("clip_cov", fn, frozenset({"old_logprobs", "advantage"}), shrinks_denominator=False)


def forking_tokens(share: float, unit: Unit) -> TokenFilter:
    """Keep the units with the highest entropy: those at or above the (1 - share)-quantile of the batch.

    Above tokens the entropy is the unit's mean. Dropped tokens leave the denominator.
    Source: arXiv 2506.01939 section 5.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        values = counted_mean(table.columns["entropy"], table, unit)
        units = counted_units(table, unit)
        if not units.any():
            return torch.ones_like(table.columns["counted"])
        return (values >= quantile(values[units], 1 - share)).float()

    return TokenFilter("forking_tokens", fn, frozenset({"entropy"}), shrinks_denominator=True)


def steer(shape: Shape, w_min: float, w_max: float, unit: Unit) -> TokenFilter:
    """Weigh units down by how much they would change the entropy, |Omega| = |A (1 - p) (ln p + H)|.

    `exponential`: exp(-k |Omega|), k = -ln(w_min) / max(largest |Omega|, 0.02), so in [w_min, 1]. `linear`: from w_max
    for the smallest |Omega| to w_min for the largest. Above tokens Omega is summed. The denominator stays. The released
    code has pi_theta(1 - pi_theta) / pi_old of each micro-batch's policy for 1 - p, its extremes within it, and builds
    on DAPO with dual clip. Source: STEER, arXiv 2510.10150; zz-haooo/STEER core_algos.py.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        logprobs, entropy = table.columns["old_logprobs"].double(), table.columns["entropy"].double()
        omega = table.columns["advantage"].double() * (1 - logprobs.exp()) * (logprobs + entropy)
        sizes = counted_sum(omega, table, unit).abs()
        units = counted_units(table, unit)
        if not units.any():
            return torch.ones_like(table.columns["counted"])
        smallest, top = float(sizes[units].min()), float(sizes[units].max())
        if shape == "exponential":
            return (math.log(w_min) / max(top, SMALLEST_SCALE) * sizes).exp().clamp(w_min, 1).float()
        if top - smallest < FLAT:
            return torch.full_like(table.columns["counted"], (w_min + w_max) / 2)
        return (w_max - (sizes - smallest) / (top - smallest) * (w_max - w_min)).float()

    return TokenFilter("steer", fn, frozenset({"old_logprobs", "entropy", "advantage"}), shrinks_denominator=False)


def largest(scores: Tensor, candidates: Tensor, limit: int, draws: Tensor) -> Tensor:
    """Return 1 for the `limit` candidates [N] bool with the largest scores [N], equal ones in the order of `draws`;
    else 0.
    """
    at = candidates.nonzero()[:, 0]
    at = at[draws[at].sort(stable=True).indices]
    at = at[scores[at].sort(descending=True, stable=True).indices[:limit]]
    return torch.zeros(len(scores), device=scores.device).index_fill_(0, at, 1.0)


def chosen_units(chosen: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return 1 for every token of the units whose first token is chosen, [N] float32."""
    return unit_sum(chosen, table, unit).float()


def _share(share: float, number: int) -> int:
    """Return floor(share * number), not one less where the product is a whole number up to rounding."""
    return math.floor(share * number + 1e-9)
