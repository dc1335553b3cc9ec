import itertools
import math

import numpy as np
import pytest

from agentgym_rft.report.intervals import bootstrap_mean, mean_ci, pass_at_k, student_t_quantile, wilson


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


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (5, 2, 1, 2 / 5),
        (5, 2, 2, 1 - 3 / 10),  # C(3,2) / C(5,2)
        (5, 2, 4, 1.0),  # three failures cannot fill four places
        (10, 3, 5, 1 - 21 / 252),  # C(7,5) / C(10,5)
        (4, 0, 4, 0.0),
        (4, 4, 1, 1.0),
    ],
)
def test_pass_at_k_is_the_value_worked_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_is_the_share_of_all_choices_with_a_win():
    outcomes = [True, False, False, True, False, False]
    for k in range(1, 7):
        choices = list(itertools.combinations(outcomes, k))
        assert pass_at_k(6, 2, k) == pytest.approx(sum(map(any, choices)) / len(choices))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1)])
def test_an_impossible_pass_at_k_is_refused(n, c, k):
    with pytest.raises(ValueError, match="undefined"):
        pass_at_k(n, c, k)


def test_a_bootstrap_is_the_same_every_time_whatever_else_draws():
    values = [math.sqrt(number) for number in range(20)]
    first = bootstrap_mean(values)
    np.random.seed(5)  # noqa: NPY002, the global state that must not matter
    assert bootstrap_mean(values) == first
    assert first.low < sum(values) / 20 < first.high


def test_a_bootstrap_of_many_values_is_close_to_the_normal_interval_and_one_of_equal_values_has_no_width():
    low, high = bootstrap_mean([0.0, 1.0] * 200)
    half = 1.959964 * 0.5 / 20  # standard error of 400 fair coins
    assert low == pytest.approx(0.5 - half, abs=0.004)
    assert high == pytest.approx(0.5 + half, abs=0.004)
    assert bootstrap_mean([0.5] * 3) == (0.5, 0.5)


def test_a_bootstrap_of_two_values_has_the_quantiles_of_its_three_outcomes():
    # Means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: 2.5 % and 97.5 % lie in the outer ones.
    assert bootstrap_mean([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], confidence=0.3) == (0.5, 0.5)


def test_a_bootstrap_in_several_parts_draws_as_many(monkeypatch):
    values = [0.0, math.pi, math.e]
    whole = bootstrap_mean(values)
    monkeypatch.setattr("agentgym_rft.report.intervals._CHUNK", 3 * 777)
    assert bootstrap_mean(values) == whole


def test_a_bootstrap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([1.0], confidence=1.0)
