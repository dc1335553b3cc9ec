"""What every registered algorithm must keep, by itself and in every mode of the update."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import available_columns, build_table
from tests.trainers.tiny import scored, step, tiny_groups, tiny_model

MODES = {
    "one step": {},
    "minibatches and epochs": {"num_minibatches": 2, "num_epochs": 2, "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def sampled():
    torch.set_num_threads(1)
    model = tiny_model()
    groups = tiny_groups(model)
    return model, groups, *build_table(groups, 0)


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request):
    return build_algorithm(AlgorithmSection(name=request.param, entropy_coef=0.01))


def assert_same(got, expected):
    (change, metrics), (expected_change, expected_metrics) = got, expected
    assert expected_change.norm() > 0
    torch.testing.assert_close(change, expected_change, rtol=1e-6, atol=1e-6 * float(expected_change.abs().max()))
    assert metrics == pytest.approx(expected_metrics, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_the_micro_batch_size_changes_nothing(algorithm, sampled, mode):
    model, _, table, rows = sampled
    expected = step(model, table, rows, algorithm, micro_batch_tokens=10**6, **MODES[mode])
    for tokens in (1, 33):
        assert_same(step(model, table, rows, algorithm, micro_batch_tokens=tokens, **MODES[mode]), expected)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_rows_changes_nothing(algorithm, sampled, mode):
    model, _, table, rows = sampled
    expected = step(model, table, rows, algorithm, **MODES[mode])
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert_same(step(model, table, shuffled, algorithm, **MODES[mode]), expected)


def test_the_order_of_groups_changes_nothing(algorithm, sampled):
    model, groups, table, rows = sampled
    reordered = build_table(groups[::-1], 0)
    assert_same(step(model, *reordered, algorithm), step(model, table, rows, algorithm))


def test_it_runs_with_the_columns_that_every_run_has(algorithm):
    algorithm.validate(available_columns(reference=False, critic=True, teacher=True), group_size=8)


def test_it_refuses_to_run_without_what_it_needs(algorithm):
    for name in sorted(algorithm.needs - set(algorithm.known_functionals)):
        with pytest.raises(ValueError, match=f"needs the column '{name}'"):
            algorithm.validate(available_columns(reference=True, critic=True, teacher=True) - {name})


def test_its_columns_are_finite_and_cover_every_token(algorithm, sampled):
    model, _, table, rows = sampled
    table = algorithm.prepare(scored(model, table, rows, algorithm), Context())
    for name in ("advantage", "mask", "counted"):
        assert table.columns[name].shape == (table.num_tokens,)
        assert table.columns[name].isfinite().all()
    assert (table.columns["advantage"] != 0).any()


def test_auxiliary_trajectories_change_nothing_of_the_others(algorithm, sampled):
    model, groups, table, rows = sampled
    expected = algorithm.prepare(scored(model, table, rows, algorithm), Context())
    extra = replace(groups[0], auxiliary=groups[1].trajectories)
    table, rows = build_table([extra, *groups[1:]], 0, auxiliary=True)
    got = algorithm.prepare(scored(model, table, rows, algorithm), Context())
    for name in ("advantage", "mask", "counted"):
        torch.testing.assert_close(got.columns[name][: expected.num_tokens], expected.columns[name])
    assert not got.columns["mask"][expected.num_tokens :].any()
    assert not got.columns["counted"][expected.num_tokens :].any()


def test_returns_that_only_rounding_tells_apart_are_equal(algorithm, sampled):
    model, groups, _, _ = sampled

    def paid(group, rewards):
        """The group in which each trajectory's last turn gets one of these sequences of rewards."""
        members = []
        for number, trajectory in enumerate(group.trajectories):
            own = rewards[number % len(rewards)]
            turns = [replace(turn, reward=0.0) for turn in trajectory.turns]
            turns[-1] = replace(turns[-1], reward=sum(own))
            named = {f"part {n}": value for n, value in enumerate(own)}
            members.append(replace(trajectory, turns=tuple(turns), rewards=named))
        return replace(group, trajectories=tuple(members))

    def columns(*rewards):
        table, rows = build_table([paid(group, rewards) for group in groups], 0)
        return algorithm.prepare(scored(model, table, rows, algorithm), Context()).columns

    got, expected = columns([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.6]), columns([0.6])
    for name in ("advantage", "mask", "counted"):
        assert torch.equal(got[name] != 0, expected[name] != 0)
        torch.testing.assert_close(got[name], expected[name])


def test_its_section_can_be_sent_to_another_process(algorithm):
    section = AlgorithmSection(name=algorithm.name)
    assert build_algorithm(pickle.loads(pickle.dumps(section))).name == algorithm.name
