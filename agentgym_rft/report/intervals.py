"""Confidence intervals of success rates and means, and the estimator of pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
_CHUNK = 1_000_000  # drawn indices at once, which bounds the memory of a bootstrap


class Interval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a success rate: `[0, 1]` where n is 0.

    Successes may be a sum of n rates, each over several tries: their mean varies no more than that of n single tries of
    the same rate, so that the interval is then too wide rather than too narrow.

    Raises:
        ValueError: successes outside 0..n, or confidence outside (0, 1).
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} are impossible.")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    if n == 0:
        return Interval(0.0, 1.0)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return Interval(low, high)


def mean_ci(values: Sequence[float], confidence: float = 0.95) -> tuple[float, Interval]:
    """Return mean of some values and its Student-t interval; without bounds (-inf, inf) for a single value.

    Raises:
        ValueError: no values, or confidence outside (0, 1).
    Source: Student 1908, "The probable error of a mean", Biometrika 6.
    """
    if not values:
        raise ValueError("The mean of no values is undefined.")
    level = _checked(confidence)
    mean, n = fmean(values), len(values)
    if n == 1:
        return mean, Interval(-math.inf, math.inf)
    half = student_t_quantile(0.5 + level / 2, n - 1) * stdev(values) / math.sqrt(n)
    return mean, Interval(mean - half, mean + half)


def bootstrap_mean(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval of a mean: that of `RESAMPLES` samples of the same size, drawn with replacement.

    The same values in the same order give the same interval. Quantiles are interpolated linearly.

    Raises:
        ValueError: no values, or confidence outside (0, 1).
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7.
    """
    if not values:
        raise ValueError("The mean of no values is undefined.")
    rest = (1 - _checked(confidence)) / 2
    data = np.asarray(values, dtype=float)  # [N]
    rng = np.random.Generator(np.random.PCG64(0))
    rows = max(_CHUNK // len(data), 1)
    means = np.concatenate(
        [
            data[rng.integers(len(data), size=(min(rows, RESAMPLES - start), len(data)))].mean(axis=1)
            for start in range(0, RESAMPLES, rows)
        ]
    )  # [RESAMPLES]
    low, high = np.quantile(means, (rest, 1 - rest))
    return Interval(float(low), float(high))


def pass_at_k(num_samples: int, num_won: int, k: int) -> float:
    """Return an unbiased estimate of the chance that at least one of k samples wins: `1 - C(n - c, k) / C(n, k)`.

    Raises:
        ValueError: k outside 1..n, or c outside 0..n.
    Source: Chen et al. 2021, "Evaluating large language models trained on code", arXiv 2107.03374, eq. 1.
    """
    if not 1 <= k <= num_samples or not 0 <= num_won <= num_samples:
        raise ValueError(f"pass@{k} of {num_won} wins in {num_samples} samples is undefined.")
    return 1 - math.comb(num_samples - num_won, k) / math.comb(num_samples, k)


def student_t_quantile(probability: float, degrees: int) -> float:
    """Return the t with `P(T <= t) = probability` (>= 0.5), by bisection to 1e-10."""
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees) < probability:
        high *= 2
    while high - low > 1e-10 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _student_t_cdf(t: float, degrees: int) -> float:
    """Return P(T <= t) for t >= 0, by the finite sums of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    theta = math.atan2(t, math.sqrt(degrees))
    cos_squared = math.cos(theta) ** 2
    is_odd = degrees % 2
    term = math.cos(theta) if is_odd else 1.0
    total = 0.0
    for k in range(1 + is_odd, degrees, 2):
        total += term
        term *= cos_squared * k / (k + 1)
    if is_odd:
        return 0.5 + (theta + math.sin(theta) * total) / math.pi
    return 0.5 + math.sin(theta) * total / 2


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence is {confidence}, expected a number between 0 and 1.")
    return confidence
