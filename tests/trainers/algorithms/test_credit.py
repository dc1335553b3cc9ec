from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.advantages import turn_returns
from agentgym_rft.trainers.algorithms.credit import generalized_advantage
from agentgym_rft.trainers.batch.table import available_columns
from tests.trainers.tiny import step
from tests.trainers.turns import advantages, group_of, prepared, turn


def build(name, options=None, **section):
    return build_algorithm(AlgorithmSection(name=name, options=options or {}, **section))


def test_gigpo_adds_the_advantage_among_turns_of_the_same_state():
    """The vector of the catalogue: two one-turn episodes from one state, returns 1 and 0."""
    group = group_of([turn(1, "s0")], [turn(0, "s0")])
    assert advantages(build("gigpo"), group) == [1, -1]
    assert advantages(build("gigpo", {"omega": 0.5}), group) == [0.75, -0.75]


def test_gigpo_compares_discounted_returns_of_revisited_states():
    # Episodes a -> b -> (1) and a -> a -> (0). Returns at gamma .5: [.5, 1] and [0, 0]. In state a: .5, 0, 0, mean 1/6.
    group = group_of([turn(0, "a"), turn(1, "b")], [turn(0, "a"), turn(0, "a")])
    got = advantages(build("gigpo", gamma=0.5), group)
    assert got == pytest.approx([0.5 + 1 / 3, 0.5, -0.5 - 1 / 6, -0.5 - 1 / 6])


def test_gigpo_with_std_divides_both_parts_by_their_own():
    group = group_of([turn(1, "s0")], [turn(0, "s0")])
    root = 2 * (0.5 / (0.5**0.5 + 1e-6))
    assert advantages(build("gigpo", {"mode": "mean_std_norm"}), group) == pytest.approx([root, -root])


def test_gigpo_can_count_an_episode_once_a_turn_as_the_released_code_does():
    # Turn-weighted mean of returns: (1 + 0 + 0 + 0) / 4.
    group = group_of([turn(1, "a")], [turn(0, "b"), turn(0, "c"), turn(0, "d")])
    assert advantages(build("gigpo", {"episode_unit": "turn"}), group) == [0.75, -0.25, -0.25, -0.25]
    assert advantages(build("gigpo"), group) == [0.5, -0.5, -0.5, -0.5]


@pytest.mark.parametrize(("mode", "scale"), [("mean_norm", "none"), ("mean_std_norm", "std")])
def test_gigpo_without_shared_states_is_grpo(batch, model, mode, scale):
    table, rows = batch
    alone = torch.arange(table.num_turns)
    table = replace(table, turn_columns={**table.turn_columns, "state": alone})
    gigpo, grpo = build("gigpo", {"mode": mode}), build("grpo", {"scale": scale})
    torch.testing.assert_close(step(model, table, rows, gigpo)[0], step(model, table, rows, grpo)[0])


def test_turns_without_a_state_key_share_no_state():
    group = group_of([turn(), turn(1)], [turn(), turn(0)])
    assert advantages(build("gigpo"), group) == advantages(build("grpo", {"scale": "none"}), group)


def test_equal_states_of_other_groups_are_not_compared():
    groups = [group_of([turn(r, "s")], [turn(r, "s")], group=f"g{r}") for r in (0, 1)]
    assert advantages(build("gigpo"), *groups) == [0, 0, 0, 0]


def test_empg_scales_advantages_of_both_signs_and_adds_the_bonus_of_the_next_turn():
    algorithm = build("empg", {"zeta": 0.1, "scale": "none"})
    other = group_of([turn(-1)], [turn(1), turn(0), turn(0)])  # returns -1 and 1: advantages -1 and 1
    entropy = torch.tensor([0.6, 0.2, 0.6, 1.0])
    gain = (-torch.tensor([0.5, 0, 0.5, 1])).exp()
    gain = gain / gain.mean()
    bonus = 0.1 * torch.tensor([0, (-torch.tensor(0.5)).exp(), (-torch.tensor(1.0)).exp(), 0])
    expected = torch.tensor([-1.0, 1, 1, 1]) * gain + bonus
    got = advantages(algorithm, other, entropy=entropy)
    assert got == pytest.approx((expected - expected.mean()).tolist(), abs=1e-6)


def test_empg_of_one_trajectory_is_worked_by_hand():
    """H = [.2, .6, 1], A = 1, zeta = .1: [1.580094, .958376, .558971] before centring."""
    algorithm = build("sft", {"which": "all"})
    algorithm = replace(algorithm, advantage_transforms=build("empg", {"zeta": 0.1}).advantage_transforms)
    group = group_of([turn(), turn(tokens=2), turn(1)])
    got = advantages(algorithm, group, entropy=torch.tensor([0.2, 0.5, 0.7, 1.0]))
    assert got == pytest.approx([0.547614, -0.074105, -0.074105, -0.473509], abs=1e-6)


def test_empg_leaves_auxiliary_turns_out_of_its_statistics():
    members = ([turn(), turn(1)], [turn(0)])
    entropy = torch.tensor([0.2, 0.6, 1.0])
    alone = advantages(build("empg"), group_of(*members), entropy=entropy)
    table = prepared(
        build("empg"),
        group_of(*members, auxiliary=[turn(0), turn(0)]),
        entropy=torch.cat([entropy, torch.tensor([9.0, 0.0])]),
    )
    assert table.columns["advantage"][:3].tolist() == pytest.approx(alone)
    assert table.columns["mask"].tolist() == [1, 1, 1, 0, 0]


def test_empg_without_differences_in_entropy_and_bonus_is_centred_grpo():
    group = group_of([turn(), turn(1)], [turn(0)])
    got = advantages(build("empg", {"zeta": 0, "scale": "none"}), group, entropy=torch.full((3,), 0.4))
    assert got == pytest.approx([0.5 - 1 / 6, 0.5 - 1 / 6, -0.5 - 1 / 6])


def test_igpo_gives_the_vector_of_the_catalogue():
    group = group_of([turn(1.0), turn(-0.5), turn(1.0)], [turn(0), turn(0), turn(0)])
    got = advantages(build("igpo", gamma=1.0), group)
    assert got == pytest.approx([1.4589, -0.1470, 1, -1.4588, -1.2294, -1], abs=2e-4)


def test_igpo_without_turn_rewards_is_grpo_with_the_population_std():
    group = group_of([turn(), turn(1)], [turn(), turn(), turn(0)], [turn(0)])
    mean, root = 1 / 3, (2 / 9) ** 0.5 + 1e-6
    won, lost = (1 - mean) / root, -mean / root
    assert advantages(build("igpo", gamma=1.0), group) == pytest.approx([won] * 2 + [lost] * 4)
    assert advantages(build("igpo", gamma=0.5), group)[:2] == pytest.approx([won / 2, won])


def gae(rewards, values, gamma, lam, valued=None, trajectories=None):
    tensors = (torch.tensor(column, dtype=torch.float64) for column in (rewards, values))
    valued = torch.tensor(valued or [True] * len(rewards))
    keys = torch.tensor(trajectories or [0] * len(rewards))
    return generalized_advantage(*tensors, valued, keys, gamma, lam).tolist()


def test_gae_is_worked_by_hand():
    # d = [0 + .5 * .4 - .2, 0 + .5 * .6 - .4, 1 - .6] = [0, -.1, .4]; A2 = .4, A1 = -.1 + .25 * .4 = 0, A0 = 0 + 0.
    assert gae([0, 0, 1], [0.2, 0.4, 0.6], 0.5, 0.5) == pytest.approx([0, 0, 0.4])
    # The second episode starts again from nothing.
    got = gae([0, 1, 2, 0], [0.5, 0.5, 1, 1], 1.0, 1.0, trajectories=[0, 0, 1, 1])
    assert got == pytest.approx([0.5, 0.5, 1, -1])


def test_gae_with_lambda_one_is_the_return_minus_the_value_and_with_zero_the_td_error():
    rewards, values = torch.rand(6, generator=torch.Generator().manual_seed(0)).double(), torch.rand(6).double()
    trajectory = torch.tensor([0, 0, 0, 1, 1, 2])
    returns = turn_returns(rewards, trajectory, 0.9)
    valued = torch.ones(6, dtype=torch.bool)
    one = generalized_advantage(rewards, values, valued, trajectory, 0.9, 1.0)
    torch.testing.assert_close(one, returns - values)
    following = torch.tensor([*values[1:3].tolist(), 0, float(values[4]), 0, 0], dtype=torch.float64)
    zero = generalized_advantage(rewards, values, valued, trajectory, 0.9, 0.0)
    torch.testing.assert_close(zero, rewards + 0.9 * following - values)


def test_gae_looks_through_a_turn_that_has_no_value():
    # V1 is taken to be r1 + gamma V2 = .2 + .5 * .6 = .5, so d1 = 0; A2 = .4, A1 = .25 * .4, d0 = .5 * .5 - .1.
    got = gae([0, 0.2, 1], [0.1, 99, 0.6], 0.5, 0.5, valued=[True, False, True])
    assert got == pytest.approx([0.15 + 0.25 * 0.1, 0.1, 0.4])


@pytest.mark.parametrize("name", ["gigpo", "empg", "igpo", "ppo", "sft", "r3l", "reflect_grpo", "critique_grpo"])
def test_options_that_do_not_exist_and_inputs_that_are_missing_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' has no option 'omegga'"):
        build(name, {"omegga": 1})
    needs = sorted(build(name).needs - set(build(name).known_functionals))
    with pytest.raises(ConfigError, match=f"needs the column '{needs[0]}', which nothing provides"):
        build(name).validate(available_columns(reference=True, critic=True) - {needs[0]})


@pytest.mark.parametrize(("which", "mask"), [("won", [1, 1, 0]), ("all", [1, 1, 1])])
def test_sft_imitates_won_or_all_trajectories(which, mask):
    table = prepared(build("sft", {"which": which}), group_of([turn(), turn(1)], [turn(0)]))
    assert table.columns["mask"].tolist() == mask
    assert table.columns["counted"].tolist() == mask
    assert table.columns["advantage"].tolist() == [1, 1, 1]


def test_sft_is_the_mean_negative_log_likelihood_of_its_tokens(model, batch):
    table, rows = batch
    metrics = step(model, table, rows, build("sft", {"which": "all"}))[1]
    assert metrics["loss/policy"] == pytest.approx(-float(table.columns["behaviour_logprobs"].mean()), rel=1e-5)
