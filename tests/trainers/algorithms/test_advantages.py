from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.trainers.algorithms.advantages import (
    group_advantage,
    group_mean,
    group_relative,
    group_std,
    leave_one_out,
    turn_returns,
    unscaled,
    weigh_negative,
)
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import build_table
from tests.trainers.tiny import fixed_groups


def relative(returns, baseline, scale=unscaled):
    """Advantages of groups of values, flat."""
    values = torch.tensor([value for group in returns for value in group], dtype=torch.float64)
    key = torch.tensor([number for number, group in enumerate(returns) for _ in group])
    return group_relative(values, key, len(returns), baseline, scale).tolist()


def test_grpo_is_the_distance_from_the_mean_in_standard_deviations():
    # Mean 1, sample variance (1 + 0 + 1) / 2 = 1; mean 2, variance (4 + 4) / 1 = 8.
    got = relative([[0, 1, 2], [0, 4]], group_mean, group_std)
    root = 8**0.5 + 1e-6
    assert got == pytest.approx([-1 / (1 + 1e-6), 0, 1 / (1 + 1e-6), -2 / root, 2 / root])


def test_without_scale_it_is_the_distance_from_the_mean():
    assert relative([[0, 1, 2, 1], [5, 1]], group_mean) == [-1, 0, 1, 0, 2, -2]


def test_leave_one_out_compares_with_the_others():
    # Others of 0: mean of 1 and 5 is 3; of 1: 2.5; of 5: 0.5.
    assert relative([[0, 1, 5]], leave_one_out) == [-3, -1.5, 4.5]


def test_leave_one_out_is_the_centred_value_times_g_over_g_minus_1():
    returns = [[0.5, 1, 0, 2], [3, 1, 1]]
    centred = relative(returns, group_mean)
    factor = [4 / 3] * 4 + [3 / 2] * 3
    assert relative(returns, leave_one_out) == pytest.approx([c * f for c, f in zip(centred, factor, strict=True)])


@pytest.mark.parametrize("baseline", [group_mean, leave_one_out])
def test_groups_of_equal_returns_and_of_one_have_exactly_zero_advantage(baseline):
    assert relative([[0.1, 0.1, 0.1], [0.7]], baseline, group_std) == [0, 0, 0, 0]


@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=6), min_size=1, max_size=5))
def test_group_relative_advantages_add_up_to_zero_in_every_group(returns):
    for baseline in (group_mean, leave_one_out):
        flat = relative(returns, baseline)
        for group in returns:
            part, flat = flat[: len(group)], flat[len(group) :]
            assert sum(part) == pytest.approx(0, abs=1e-9)


def test_every_token_gets_the_advantage_of_its_trajectory():
    table, _ = build_table(fixed_groups([[1, 0], [3, 0]], [[2, 1], [1, 2]]), 0)
    table = group_advantage(group_mean)(table, Context())
    assert table.columns["advantage"].tolist() == [0.5, 0.5, -0.5, 1.5, -1.5, -1.5]


def test_turn_returns_discount_what_comes_later_in_the_same_trajectory():
    rewards = torch.tensor([0.0, 1.0, 2.0, -1.0, 4.0], dtype=torch.float64)
    trajectory = torch.tensor([0, 0, 0, 1, 1])
    # 0 + .5 (1 + .5 * 2) = 1; 1 + .5 * 2 = 2; 2; -1 + .5 * 4 = 1; 4
    assert turn_returns(rewards, trajectory, 0.5).tolist() == [1, 2, 2, 1, 4]
    assert turn_returns(rewards, trajectory, 0.0).tolist() == rewards.tolist()


def test_with_one_turn_a_trajectory_turns_and_trajectories_have_the_same_advantage():
    def with_turn_rewards(trajectory):
        turn = replace(trajectory.turns[0], reward=trajectory.episode_return)
        return replace(trajectory, turns=(turn,))

    groups = [
        replace(group, trajectories=tuple(map(with_turn_rewards, group.trajectories)))
        for group in fixed_groups([[0.0, 1.0], [2.0, 5.0, 2.0]])
    ]
    table, _ = build_table(groups, version=0)
    by_turn = group_advantage(group_mean, group_std, unit="turn", gamma=0.9)(table, Context()).columns["advantage"]
    by_trajectory = group_advantage(group_mean, group_std)(table, Context()).columns["advantage"]
    assert by_trajectory.abs().min() > 0.5
    assert torch.equal(by_turn, by_trajectory)


def test_only_negative_advantages_are_weighed():
    table, _ = build_table(fixed_groups([[0.0, 1.0]]), version=0)
    table = table.with_columns({"advantage": torch.linspace(-1, 1, table.num_tokens)})
    before = table.columns["advantage"]
    after = weigh_negative(0.25)(table, Context()).columns["advantage"]
    assert torch.equal(after[before >= 0], before[before >= 0])
    assert torch.equal(after[before < 0], 0.25 * before[before < 0])
