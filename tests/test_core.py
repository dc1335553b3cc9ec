from __future__ import annotations

from itertools import permutations

import pytest

from agentgym_rft.core import StopReason, Trajectory, difference, rounded_sum


def test_a_sum_of_rewards_does_not_depend_on_their_order_or_number():
    assert {rounded_sum(order) for order in permutations([0.1, 0.2, 0.3])} == {0.6}
    assert rounded_sum([0.1] * 10) == 1.0  # 0.9999999999999999 in floating point
    assert rounded_sum([0.1, 0.2, -0.3]) == 0.0
    assert rounded_sum([]) == 0.0


@pytest.mark.parametrize("size", [1e-300, 1e-15, 1.0, 1e15, 1e300])
def test_rewards_of_any_size_keep_twelve_digits(size):
    assert rounded_sum([size, 2 * size]) == pytest.approx(3 * size, rel=1e-11)
    assert rounded_sum([size * (1 + 1e-9)]) > rounded_sum([size])


def test_a_sum_beyond_the_largest_number_is_infinite():
    assert rounded_sum([1e308, 1e308]) == float("inf")


def test_a_return_that_was_paid_in_tenths_reaches_one():
    trajectory = Trajectory("t", "g", "e", (), StopReason.SUCCESS, rewards={f"r{n}": 0.1 for n in range(10)})
    assert trajectory.episode_return == 1.0


def test_a_difference_is_zero_where_rounding_alone_makes_it():
    assert difference(0.1 + 0.2, 0.3) == 0.0
    assert difference(0.3, 0.2) == pytest.approx(0.1)
    assert difference(1e-20, 0.0) == 1e-20
