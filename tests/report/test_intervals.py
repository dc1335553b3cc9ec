import math

import pytest

from agentgym_rft.report.intervals import mean_ci, student_t_quantile, wilson


def test_wilson_of_half_is_the_value_worked_by_hand():
    # z = 1.959964, z^2 = 3.841459; centre (0.5 + 0.192073) / 1.384146 = 0.5; spread
    # 1.959964 * sqrt(0.025 + 3.841459 / 400) / 1.384146 = 0.263407
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.5 - 0.263407, abs=1e-6)
    assert high == pytest.approx(0.5 + 0.263407, abs=1e-6)


def test_wilson_at_the_ends_stays_inside_zero_and_one():
    # At 0 of n the upper bound is z^2 / (n + z^2): 3.841459 / 13.841459.
    assert wilson(0, 10) == (0.0, pytest.approx(0.277533, abs=1e-6))
    assert wilson(10, 10) == (pytest.approx(1 - 0.277533, abs=1e-6), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_mirrors_and_narrows():
    low, high = wilson(30, 200)
    assert wilson(170, 200) == (pytest.approx(1 - high), pytest.approx(1 - low))
    assert wilson(30, 200, confidence=0.99).low < low
    assert wilson(300, 2000).low > low


@pytest.mark.parametrize(("successes", "n", "confidence"), [(11, 10, 0.95), (-1, 10, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_impossible_counts_and_confidences_are_refused(successes, n, confidence):
    with pytest.raises(ValueError):
        wilson(successes, n, confidence)


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (29, 2.04523)]
)
def test_student_quantiles_are_those_of_the_tables(degrees, t):
    assert student_t_quantile(0.975, degrees) == pytest.approx(t, rel=2e-6)


def test_the_interval_of_a_mean_is_the_value_worked_by_hand():
    # mean 2, standard deviation 1, t(2) = 4.302653: 2 +- 4.302653 / sqrt(3)
    mean, (low, high) = mean_ci([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == (pytest.approx(2 - 2.484138, abs=1e-5), pytest.approx(2 + 2.484138, abs=1e-5))


def test_one_value_has_no_bounds_and_none_has_no_mean():
    assert mean_ci([3.0]) == (3.0, (-math.inf, math.inf))
    with pytest.raises(ValueError, match="no values"):
        mean_ci([])
