"""Rows of several agents train like any other: with every algorithm, entropy control and granularity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import Group
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.algorithms.entropy.controls import CONTROLS
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.groups import by_seat, split_errors
from agentgym_rft.trainers.batch.table import build_table
from tests.contract.test_controls import SEVERAL, UNITS, assert_same, controlled
from tests.trainers.tiny import play, scored, step, tiny_model

SEATS = {"worker_1": "worker", "worker_2": "worker", "planner": "planner"}
RETURNS = ((1, 0, 0), (0, 1), (0.5, 1, 0, 0))  # of the episodes of each group
WHITENED = {"empg", "ppo", "reinforce_pp"}  # their advantages are normalised over the whole batch
PAIRS = [(name, unit) for name in sorted(ALGORITHMS) for unit in ("token", "turn", "trajectory")]


def team_groups(model, seats=SEATS, seed=0):
    """Groups of episodes, each with a trajectory of every seat."""
    rng = np.random.default_rng(seed)
    groups = []
    for g, returns in enumerate(RETURNS):
        members = []
        for n, reward in enumerate(returns):
            for agent, role in seats.items():
                own = reward if role == "worker" else reward / 2
                info = {"role": role, "player": "", "is_trained": True, "score": own}
                members.append(replace(play(model, rng, n, g, own), agent_id=agent, info=info))
        groups.append(Group(f"g{g}", f"t{g}", tuple(members)))
    return groups


@pytest.fixture(scope="module")
def sampled():
    torch.set_num_threads(1)
    model = tiny_model()
    groups = team_groups(model)
    kept, _ = split_errors(by_seat(groups))
    return model, groups, *build_table(kept, 0)


def assert_trains(model, table, rows, algorithm):
    change, metrics = step(model, table, rows, algorithm, **SEVERAL)
    assert change.isfinite().all()
    assert change.norm() > 0
    assert np.isfinite([metrics[name] for name in metrics if name.startswith("loss/")]).all()


@pytest.mark.parametrize(("name", "unit"), [pair for pair in PAIRS if pair != ("ppo", "trajectory")])
def test_every_algorithm_trains_at_every_granularity(name, unit, sampled):
    model, _, table, rows = sampled
    section = AlgorithmSection.model_validate({"name": name, "granularity": unit} if name != "ppo" else {"name": name})
    assert_trains(model, table, rows, build_algorithm(section))


@pytest.mark.parametrize(("name", "unit"), [(name, unit) for name in sorted(CONTROLS) for unit in UNITS[name]])
def test_every_control_trains_at_every_unit(name, unit, sampled):
    model, _, table, rows = sampled
    assert_trains(model, table, rows, controlled(name, unit))


def seat_alone(groups, agent):
    """What a run with this agent alone would train on."""
    return [
        replace(group, trajectories=tuple(t for t in group.trajectories if t.agent_id == agent)) for group in groups
    ]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_batch_of_several_agents_is_the_batches_of_each_put_together(name, sampled):
    model, groups, table, rows = sampled
    alone = [group for g in range(len(groups)) for agent in SEATS for group in seat_alone(groups[g : g + 1], agent)]
    algorithm = AlgorithmSection(name=name)
    expected = step(model, *build_table(alone, 0), build_algorithm(algorithm))
    assert_same(step(model, table, rows, build_algorithm(algorithm)), expected)


def columns_of(model, groups, name):
    algorithm = build_algorithm(AlgorithmSection(name=name))
    table, rows = build_table(groups, 0)
    table = algorithm.prepare(scored(model, table, rows, algorithm), Context())
    return {column: table.columns[column] for column in ("advantage", "mask", "counted")}


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - WHITENED))
def test_the_other_seats_change_nothing_in_a_seats_advantages(name, sampled):
    model, groups, _, _ = sampled
    together = columns_of(model, by_seat(groups), name)
    tokens = [sum(t.num_action_tokens for t in part.trajectories) for part in by_seat(groups)]
    ends = np.cumsum(tokens)
    for place, agent in enumerate(SEATS):
        own = columns_of(model, by_seat(seat_alone(groups, agent)), name)
        picked = [torch.arange(end - n, end) for end, n in zip(ends, tokens, strict=True)][place :: len(SEATS)]
        for column, values in own.items():
            torch.testing.assert_close(together[column][torch.cat(picked)], values)


def test_whose_returns_are_compared_is_chosen(sampled):
    model, groups, _, _ = sampled
    numbers = {
        baseline: [len(part.trajectories) for part in by_seat(groups, baseline)]
        for baseline in ("seat", "role", "team")
    }
    assert numbers["seat"] == [3, 3, 3, 2, 2, 2, 4, 4, 4]
    assert numbers["role"] == [6, 3, 4, 2, 8, 4]
    assert numbers["team"] == [9, 6, 12]
    for baseline in ("role", "team"):
        table, rows = build_table(by_seat(groups, baseline), 0)
        assert_trains(model, table, rows, build_algorithm(AlgorithmSection()))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_what_is_not_trained_changes_nothing(name, sampled):
    model, groups, table, rows = sampled
    watched = [
        replace(
            group,
            trajectories=tuple(
                part
                for t in group.trajectories
                for part in (t, replace(t, agent_id="other", info={**t.info, "role": "other", "is_trained": False}))
            ),
        )
        for group in groups
    ]
    algorithm = AlgorithmSection(name=name)
    got = step(model, *build_table(by_seat(watched), 0), build_algorithm(algorithm))
    assert_same(got, step(model, table, rows, build_algorithm(algorithm)))
