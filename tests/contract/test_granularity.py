"""`algorithm.granularity` means the same everywhere: every algorithm and unit composes, trains, and stays invariant."""

from __future__ import annotations

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.algorithms.units import first_of_unit, unit_key, unit_mean, unit_sum
from agentgym_rft.trainers.batch.table import build_table
from tests.contract.test_algorithms import assert_same, sampled  # noqa: F401
from tests.trainers.tiny import fixed_groups, step

UNITS = ("token", "turn", "trajectory")


def build(name, unit):
    return build_algorithm(AlgorithmSection.model_validate({"name": name, "granularity": unit}))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"ppo"}))
def test_every_algorithm_trains_at_every_granularity_whatever_the_micro_batches(name, unit, sampled):  # noqa: F811
    model, _, table, rows = sampled
    mode = {"num_minibatches": 2, "num_epochs": 2, "learning_rate": 0.01}
    expected = step(model, table, rows, build(name, unit), micro_batch_tokens=10**6, **mode)
    assert_same(step(model, table, rows, build(name, unit), micro_batch_tokens=33, **mode), expected)


@pytest.mark.parametrize("name", sorted(n for n in ALGORITHMS if build(n, "token").surrogate.uses_ratio))
def test_granularity_sets_ratio_and_clipping_unless_a_place_says_otherwise(name):
    assert {build(name, unit).ratio.unit for unit in UNITS} == set(UNITS)
    assert {build(name, unit).ratio.clip_unit for unit in UNITS} == set(UNITS)
    section = {"name": name, "granularity": "turn", "units": {"ratio": "trajectory", "clip": "token"}}
    mixed = build_algorithm(AlgorithmSection.model_validate(section))
    assert (mixed.ratio.unit, mixed.ratio.clip_unit) == ("trajectory", "token")


@pytest.mark.parametrize("unit", UNITS)
def test_an_advantage_is_the_same_within_its_unit(unit, sampled):  # noqa: F811
    table = build("grpo", unit).prepare(sampled[2], Context())
    advantage = table.columns["advantage"]
    torch.testing.assert_close(unit_mean(advantage, table, unit), advantage)


def test_sums_means_and_first_tokens_of_units_by_hand():
    table, _ = build_table(fixed_groups([[1, 0]], [[2, 3]]), 0)  # trajectories of one turn of 2 and 3 tokens
    values = torch.tensor([1.0, 2, 3, 4, 5])
    for unit in ("turn", "trajectory"):
        assert unit_sum(values, table, unit).tolist() == [3, 3, 12, 12, 12]
        assert unit_mean(values, table, unit).tolist() == [1.5, 1.5, 4, 4, 4]
        assert first_of_unit(table, unit).tolist() == [1, 0, 1, 0, 0]
        assert unit_key(table, unit)[1] == 2
    assert unit_sum(values, table, "token").tolist() == values.tolist()
    assert first_of_unit(table, "token").tolist() == [1] * 5
