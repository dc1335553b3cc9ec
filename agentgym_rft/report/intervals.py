"""Confidence intervals of success rates and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple


class Interval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a success rate: `[0, 1]` where n is 0.

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
    """Mean of some values and its Student-t interval; without bounds (-inf, inf) for a single value.

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


def student_t_quantile(probability: float, degrees: int) -> float:
    """The t with `P(T <= t) = probability` (>= 0.5), by bisection to 1e-10."""
    low, high = 0.0, 1.0
    while _student_t_cdf(high, degrees) < probability:
        high *= 2
    while high - low > 1e-10 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _student_t_cdf(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0, by the finite sums of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
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
