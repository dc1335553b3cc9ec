"""Algorithms with one return a trajectory: baselines, selections and what every composition of them must do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.advantages import (
    constant_baseline,
    group_mean,
    group_median,
    group_relative,
    log_mean_exp,
    shifted,
    unscaled,
)
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.algorithms.reward_shaping import overlong_penalty, soft_overlong
from agentgym_rft.trainers.algorithms.selections import BESIDE_MEDIAN, median_deviation
from agentgym_rft.trainers.batch.table import build_table
from tests.trainers.tiny import fixed_groups, step, tiny_groups
from tests.trainers.turns import group_of, turn

NAMES = ["asymre", "cispo", "dapo", "gppo", "mc_grpo", "opmd", "raft", "reinforce_pp", "topr"]


def build(name, options=None, **section):
    return build_algorithm(AlgorithmSection(name=name, options=options or {}, **section))


def relative(returns, baseline, scale=unscaled):
    """Advantages of one group of values."""
    values = torch.tensor(returns, dtype=torch.float64)
    return group_relative(values, torch.zeros(len(returns), dtype=torch.int64), 1, baseline, scale).tolist()


def prepared(algorithm, returns, lengths=None, **columns):
    """The prepared table of groups with these returns; `columns` are added before."""
    table, _ = build_table(fixed_groups(returns, lengths), 0)
    given = {name: torch.tensor(values) for name, values in columns.items()}
    return algorithm.prepare(table.with_columns(given), Context())


def advantages(algorithm, returns, lengths=None, **columns):
    return prepared(algorithm, returns, lengths, **columns).columns["advantage"].tolist()


# --- baselines


def test_log_mean_exp_is_the_free_energy_of_the_group():
    returns = [1.0, 0.0, 0.0, 1.0]
    assert relative(returns, log_mean_exp(1.0)) == pytest.approx([0.379885, -0.620115, -0.620115, 0.379885], abs=1e-6)
    assert relative(returns, log_mean_exp(1e6)) == pytest.approx(relative(returns, group_mean), abs=1e-6)
    assert relative(returns, log_mean_exp(1e-6)) == pytest.approx([0, -1, -1, 0], abs=1e-5)
    assert relative([1e4, 0.0], log_mean_exp(1.0)) == pytest.approx([math.log(2), math.log(2) - 1e4])
    assert relative([0.3, 0.3, 0.3], log_mean_exp(1.0)) == [0, 0, 0]


def test_a_baseline_below_the_mean_also_rewards_groups_that_agree():
    assert relative([1.0, 0.0], shifted(group_mean, -0.1)) == pytest.approx([0.6, -0.4])
    assert relative([0.3, 0.3], shifted(group_mean, -0.1)) == pytest.approx([0.1, 0.1])
    assert relative([1.0, 0.0], constant_baseline(0.5)) == [0.5, -0.5]


def test_the_median_of_an_even_group_is_the_lower_of_the_middle_two():
    assert relative([4.0, 1.0, 3.0], group_median) == [1, -2, 0]
    assert relative([4.0, 1.0, 3.0, 9.0], group_median) == [1, -2, 0, 6]
    values, key = torch.tensor([5.0, 1.0, 2.0, 7.0, 0.0]).double(), torch.tensor([1, 0, 1, 1, 0])
    assert group_median(values, key, 2).tolist() == [5, 0, 5, 5, 0]


# --- DAPO


def test_the_overlong_penalty_is_linear_over_the_buffer():
    """The vector of the catalogue: limit 20, buffer 4."""
    assert [soft_overlong(length, 20, 4) for length in (5, 16, 18, 20, 31)] == [0, 0, -0.5, -1, -1]


def test_overlong_trajectories_lose_reward_in_groups_that_have_a_signal():
    long, short = [turn(), turn(), turn(1.0, tokens=2)], [turn(0.0)]
    shaper = overlong_penalty("turns", limit=4, buffer=2, factor=0.5)
    shaped = shaper.fn(group_of(long, short))
    assert [t.episode_return for t in shaped.trajectories] == [0.75, 0]
    assert [t.reward for t in shaped.trajectories[0].turns] == [0, 0, 0.75]
    by_tokens = overlong_penalty("tokens", limit=4, buffer=2, factor=0.5).fn(group_of(long, short))
    assert by_tokens.trajectories[0].rewards["overlong"] == -0.5
    flat = group_of([turn(), turn(), turn(1.0)], [turn(1.0)])
    assert shaper.fn(flat) == flat


def test_dapo_leaves_groups_without_signal_out_of_the_mean():
    algorithm = build("dapo", {"overlong_limit": 8, "overlong_buffer": 4}, aggregation="sequence_mean")
    table = prepared(algorithm, [[1, 0], [1, 1]], [[1, 3], [2, 2]])
    assert table.columns["counted"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert algorithm.aggregation.fn(table, table.columns["counted"]).tolist() == [0.25] * 4 + [0] * 4
    assert [shaper.name for shaper in algorithm.reward_shaping] == ["overlong_penalty"]


def test_dapo_refuses_a_buffer_longer_than_its_limit():
    with pytest.raises(ConfigError, match="'dapo' has overlong_buffer 9 above overlong_limit 8"):
        build("dapo", {"overlong_limit": 8, "overlong_buffer": 9})


# --- REINFORCE++


def test_reinforce_pp_whitens_over_all_tokens_of_the_batch():
    # Tokens have returns 1, 0, 1, 1: mean 3/4, variance (3/16 + 9/16) / 3 = 1/4.
    assert advantages(build("reinforce_pp"), [[1, 0], [1]], [[1, 1], [2]]) == pytest.approx([0.5, -1.5, 0.5, 0.5])
    # Less the group's mean they are 1/2, -1/2, 0, 0: variance (1/2) / 3.
    root = math.sqrt(1.5)
    grouped = build("reinforce_pp", {"baseline": "group"})
    assert advantages(grouped, [[1, 0], [1]], [[1, 1], [2]]) == pytest.approx([root, -root, 0, 0])
    assert advantages(build("reinforce_pp"), [[1, 1], [1]]) == [0, 0, 0]


def test_the_kl_in_the_return_is_that_of_the_token_and_those_after_it():
    # One trajectory of two tokens with KL .1 and .3, one of one token with KL -.2; returns 1 and 0, weight 1.
    algorithm = build("reinforce_pp", kl_coef=1.0)
    assert algorithm.regularizers == ()
    assert algorithm.needs_reference
    raw = replace(algorithm, advantage_transforms=algorithm.advantage_transforms[:1])
    lps = {"old_logprobs": [-1.0, -1.0, -1.0], "ref_logprobs": [-1.1, -1.3, -0.8]}
    assert advantages(raw, [[1, 0]], [[2, 1]], **lps) == pytest.approx([1 - 0.4, 1 - 0.3, 0.2])
    assert sum(advantages(algorithm, [[1, 0]], [[2, 1]], **lps)) == pytest.approx(0, abs=1e-6)
    grouped = build("reinforce_pp", {"baseline": "group"}, kl_coef=1.0)
    assert [term.name for term in grouped.regularizers] == ["kl"]


def test_reinforce_pp_works_with_one_trajectory_a_task():
    build("reinforce_pp").validate(["episode_return", "old_logprobs"], group_size=1)
    with pytest.raises(ConfigError, match="at least 2"):
        build("reinforce_pp", {"baseline": "group"}).validate(["episode_return", "old_logprobs"], group_size=1)


# --- RAFT


def test_raft_imitates_the_best_of_each_group_or_what_reaches_a_threshold():
    returns = [[1, 0.5, 0], [0, 0], [1, 1]]
    assert advantages(build("raft"), returns) == [1, 0, 0, 1, 1, 1, 1]
    table = prepared(build("raft", {"select": "threshold", "threshold": 0.5}), returns)
    assert table.columns["advantage"].tolist() == [1, 1, 0, 0, 0, 1, 1]
    assert table.columns["counted"].tolist() == [1, 1, 0, 0, 0, 1, 1]


def test_raft_over_all_won_trajectories_is_supervised_fine_tuning(model, batch):
    got, metrics = step(model, *batch, build("raft", {"select": "threshold", "threshold": 0.25}))
    expected, sft_metrics = step(model, *batch, build("sft"))
    torch.testing.assert_close(got, expected)
    assert metrics["loss/policy"] == pytest.approx(sft_metrics["loss/policy"])


# --- MC-GRPO


def test_mc_grpo_is_the_distance_from_the_median_in_absolute_deviations():
    """The vectors of the catalogue."""
    returns = [0.1, 0.2, 0.4, 0.7, 0.9]
    expected = [-0.996678, -0.664452, 0, 0.996678, 1.661130]
    assert relative(returns, group_median, median_deviation("std")) == pytest.approx(expected, abs=1e-6)
    rescaled = [5 / 4 * value for value in expected]
    assert advantages(build("mc_grpo"), [returns]) == pytest.approx(rescaled, abs=1e-6)


@pytest.mark.parametrize(("fallback", "unit"), [("std", 2**0.5), ("none", 1.0), ("released", 1000.0)])
def test_where_the_deviation_is_zero_mc_grpo_falls_back(fallback, unit):
    # Centred returns 0 0 1 0 1: the standard deviation about the median is sqrt(2 / 4).
    returns = [0.0, 0.0, 1.0, 0.0, 1.0]
    got = relative(returns, group_median, median_deviation(fallback))
    assert got == pytest.approx([0, 0, unit, 0, unit], rel=1e-5)
    got = advantages(build("mc_grpo", {"fallback": fallback}), [returns])
    assert got == pytest.approx([0, 0, 2.5 * unit, 0, 2.5 * unit], rel=1e-5)


def test_mc_grpo_without_scale_is_grpo_without_scale_where_median_and_mean_agree():
    plain = build("mc_grpo", {"scale": "none", "rescale": False})
    returns = [[0, 1, 2], [3, 3, 3], [5, 1, 3]]
    assert advantages(plain, returns) == advantages(build("grpo", {"scale": "none"}), returns)


def test_mc_grpo_takes_one_member_at_the_median_out_of_the_batch():
    table = prepared(build("mc_grpo"), [[1, 0, 0], [0.2, 0.1, 0.9]], [[1, 3, 2], [1, 1, 2]])
    # Of the first group's two failures the shorter one goes, of the second group the one with 0.2.
    assert table.columns["counted"].tolist() == [1, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert table.columns[BESIDE_MEDIAN].tolist() == table.columns["counted"].tolist()
    assert not (table.columns["advantage"] * (1 - table.columns["counted"])).any()


def test_the_order_of_members_does_not_change_what_mc_grpo_learns(model):
    groups = tiny_groups(model, [[1, 0, 0, 0, 0], [0.5, 1, 0]])
    algorithm = build("mc_grpo")
    expected, _ = step(model, *build_table(groups, 0), algorithm)
    reordered = [replace(group, trajectories=group.trajectories[::-1]) for group in groups]
    got, _ = step(model, *build_table(reordered, 0), algorithm)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


# --- settings that all of them know


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["token", "turn", "trajectory"])
def test_every_granularity_trains(model, batch, name, unit):
    table, rows = batch
    algorithm = build(name, granularity=unit)
    stepped, metrics = step(model, table, rows, algorithm, num_epochs=2, learning_rate=1e-3)
    assert stepped.norm() > 0
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_kl_penalty_reaches_every_algorithm(model, batch, name):
    table, rows = batch
    table = table.with_columns(
        {"ref_logprobs": table.columns["behaviour_logprobs"] - torch.linspace(0, 1, table.num_tokens)}
    )
    plain, _ = step(model, table, rows, build(name))
    penalised, metrics = step(model, table, rows, build(name, kl_coef=0.5, kl_estimator="k2"))
    assert not torch.allclose(plain, penalised)
    assert ("loss/kl" in metrics) == (name != "reinforce_pp")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "raft"])
def test_failures_can_weigh_less_in_every_algorithm_that_learns_from_them(name):
    returns = [[1, 1, 0], [1, 0, 0]]
    before = advantages(build(name), returns)
    after = advantages(build(name, negative_weight=0.25), returns)
    assert min(before) < 0 < max(before)
    assert after == pytest.approx([0.25 * value if value < 0 else value for value in before])


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name):
    with pytest.raises(ConfigError, match=f"Algorithm '{name}' has no option 'magic'"):
        build(name, {"magic": 1})
