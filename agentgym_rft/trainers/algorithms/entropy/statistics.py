"""Statistics of entropy controls over the global batch: float64, each unit counted once, no auxiliary trajectories.

Values of a unit above the token: entropies are means over its tokens, discriminators and covariances are sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.units import Unit, first_of_unit, unit_sum
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

FLAT = 1e-12  # a smaller spread counts as 0


def main_tokens(table: TokenTable) -> Tensor:
    """Return 1 for the tokens of trajectories that are not auxiliary, else 0, [N] float64."""
    return 1 - table.token_column("auxiliary").double()


def counted_sum(values: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return for each token the sum of `values` [N] over its unit's tokens that still count, [N] float64."""
    return unit_sum(values.double() * (table.columns["counted"] > 0), table, unit)


def counted_mean(values: Tensor, table: TokenTable, unit: Unit) -> Tensor:
    """Return for each token the mean of `values` [N] over its unit's tokens that still count, [N] float64; 0 without
    any.
    """
    return counted_sum(values, table, unit) / counted_sum(torch.ones_like(values), table, unit).clamp_min(1)


def counted_units(table: TokenTable, unit: Unit) -> Tensor:
    """Return True at the first token of each unit that has a token that still counts, [N] bool."""
    return (first_of_unit(table, unit) > 0) & (unit_sum((table.columns["counted"] > 0).double(), table, unit) > 0)


def observations(values: Tensor, chosen: Tensor) -> tuple[float, float]:
    """Return mean and population std of the values [N] where `chosen` [N] is true; zeros where it never is."""
    values = values[chosen]
    if not len(values):
        return 0.0, 0.0
    return float(values.mean()), float(values.std(correction=0))


def discriminator(table: TokenTable) -> Tensor:
    """Return s = p (H + ln p) of the sampled tokens under the policy before the update, nats, [N] float64.

    Source: arXiv 2602.03392, theorem 3.2.
    """
    logprobs, entropy = table.columns["old_logprobs"].double(), table.columns["entropy"].double()
    return logprobs.exp() * (entropy + logprobs)


def centred_discriminator(table: TokenTable) -> Tensor:
    """Return d = S - N, minus the first-order change of the position's entropy for a unit logit step along e_k - p,
    [N].

    Source: arXiv 2602.03392, theorem 3.3.
    """
    return discriminator(table) - table.columns["mean_discriminator"].double()


def covariance(table: TokenTable) -> Tensor:
    """Return (A - mean A) (logprobs - mean logprobs) with means over the tokens that still count, [N] float64.

    Source: arXiv 2505.22617 section 4.
    """
    counts = table.columns["counted"] > 0
    advantage, logprobs = table.columns["advantage"].double(), table.columns["old_logprobs"].double()
    return (advantage - observations(advantage, counts)[0]) * (logprobs - observations(logprobs, counts)[0])


def quantile(values: Tensor, q: float) -> float:
    """Return the q-quantile of [n] values, n > 0, interpolated linearly between neighbours (as numpy does)."""
    key = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    return float(segment_quantile(values, key, 1, q)[0])


def segment_quantile(values: Tensor, key: Tensor, num_segments: int, q: float) -> Tensor:
    """Return the q-quantile of the values [n] of each segment, [num_segments] float64; 0 for empty segments."""
    order = values.sort(stable=True).indices
    order = order[key[order].sort(stable=True).indices]
    ranked = torch.cat([values[order].double(), values.new_zeros(1, dtype=torch.float64)])
    counts = torch.bincount(key, minlength=num_segments)
    starts = counts.cumsum(0) - counts
    at = (q * (counts - 1).clamp_min(0).double() * 1e9).round() / 1e9  # 0.1 * 30 is not exactly 3, a rank
    below = at.floor().long()
    above = torch.minimum(below + 1, (counts - 1).clamp_min(0))
    low, high = ranked[starts + below], ranked[starts + above]
    return torch.where(counts > 0, low + (at - below) * (high - low), 0.0)


def equal_units(table: TokenTable, unit: Unit) -> Tensor:
    """Return factors of token losses that turn a mean over tokens into a mean over units of their means, [N]
    float64.

    Ones for single tokens. Main trajectories only.
    """
    main = main_tokens(table)
    lengths = unit_sum(main, table, unit).clamp_min(1)
    num_units = float((main / lengths).sum())
    return main * (float(main.sum()) / max(num_units, 1.0)) / lengths


def batch_entropy(table: TokenTable, unit: Unit) -> float:
    """Return mean entropy before the update over the units of the main trajectories, nats."""
    main = main_tokens(table)
    weights = equal_units(table, unit)
    return float((weights * table.columns["entropy"].double()).sum() / main.sum().clamp_min(1))


def segment_mean(values: Tensor, weights: Tensor, key: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Return weighted mean of the values [N] of each segment and its weight, [num_segments] float64 both; 0 without
    weight.
    """
    total = segment_sum(weights.double(), key, num_segments)
    return segment_sum(weights.double() * values.double(), key, num_segments) / total.clamp_min(FLAT), total
