"""What every entropy control must keep, and that it goes with every algorithm."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.algorithms.entropy.controls import CONTROLS
from agentgym_rft.trainers.batch.table import available_columns, build_table
from tests.trainers.tiny import step, tiny_groups, tiny_model

SEVERAL = {"num_minibatches": 2, "num_epochs": 2, "learning_rate": 0.01}  # optimizer steps a batch
# Options and state with which each control acts on the small batch.
ACTING = {
    "clip_b": {"mu": 0.8},
    "clip_v": {"mu": 0.8},
    "clip_cov": {"ratio": 0.5, "low": -9, "high": 9},
    "kl_cov": {"percent": 30},
    "entropy_bonus": {"coef": 0.05},
    "epo": {"coef": 0.05, "alpha": 1.0, "low": 0.8, "high": 1.2},
    "target_entropy": {},
    "adaptive_temperature": {},
    "forking_tokens": {"share": 0.4},
    "steer": {"shape": "linear"},
    "siren": {"coef": 0.5, "quantile": 0.3},
    "lp_reg": {"share": 0.6},
    "agentic_clip": {},
}
STATES = {
    "epo": {"means": [1.0, 2.5, 2.0], "steps": [1, 1, 1]},
    "target_entropy": {"coefficient": 0.05},
    "siren": {"anchor": 0.3},
    "adaptive_temperature": {"temperature": 1.2},
}
UNITS = dict.fromkeys(CONTROLS, ("token", "turn", "trajectory"))
UNITS |= {"lp_reg": ("token",), "siren": ("token", "turn")}
CASES = [(name, unit) for name in sorted(CONTROLS) for unit in UNITS[name]]


@pytest.fixture(scope="module")
def sampled():
    torch.set_num_threads(1)
    model = tiny_model()
    groups = tiny_groups(model)
    return model, groups, *build_table(groups, 0)


def controlled(name, unit):
    """GRPO with a control that has a past; a new one each time, because it remembers."""
    section = AlgorithmSection(
        controls=({"name": name, **ACTING[name]},), units={"entropy": unit}, clip_low=0.002, clip_high=0.002
    )
    algorithm = build_algorithm(section)
    algorithm.load_state_dict({c.name: STATES[c.name] for c in algorithm.controllers})
    return algorithm


def assert_same(got, expected):
    (change, metrics), (expected_change, expected_metrics) = got, expected
    assert expected_change.norm() > 0
    torch.testing.assert_close(change, expected_change, rtol=1e-6, atol=1e-6 * float(expected_change.abs().max()))
    assert metrics == pytest.approx(expected_metrics, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_micro_batches_and_the_order_of_rows_change_nothing(name, unit, sampled):
    model, _, table, rows = sampled
    expected = step(model, table, rows, controlled(name, unit), micro_batch_tokens=10**6, **SEVERAL)
    assert_same(step(model, table, rows, controlled(name, unit), micro_batch_tokens=33, **SEVERAL), expected)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert_same(step(model, table, shuffled, controlled(name, unit), micro_batch_tokens=1, **SEVERAL), expected)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_micro_batches_and_the_order_of_groups_change_nothing_in_a_single_step(name, unit, sampled):
    model, groups, table, rows = sampled
    reordered = build_table(groups[::-1], 0)
    expected = step(model, table, rows, controlled(name, unit))
    assert_same(step(model, *reordered, controlled(name, unit), micro_batch_tokens=1), expected)


@pytest.mark.parametrize("name", sorted(set(CONTROLS) - {"adaptive_temperature"}))
def test_it_changes_the_update(name, sampled):
    model, _, table, rows = sampled
    section = AlgorithmSection(clip_low=0.002, clip_high=0.002)
    plain, _ = step(model, table, rows, build_algorithm(section), **SEVERAL)
    for unit in UNITS[name]:
        change, _ = step(model, table, rows, controlled(name, unit), **SEVERAL)
        assert float((change - plain).norm()) > 1e-3 * float(plain.norm())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_goes_with_every_algorithm(name):
    columns = available_columns(reference=True, critic=True, teacher=True)
    stops = build_algorithm(AlgorithmSection(name=name)).surrogate.stops_gradient
    for control in CONTROLS:
        section = AlgorithmSection(name=name, controls=(control,), entropy_coef=0.01)
        if control == "agentic_clip" and not stops:
            with pytest.raises(ConfigError, match="'agentic_clip' has nothing to do"):
                build_algorithm(section)
            continue
        algorithm = build_algorithm(section)
        algorithm.validate(columns, group_size=8)
        names = [term.name for term in algorithm.regularizers]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["grpo", "ppo", "gspo"])
def test_all_controls_go_together(name):
    algorithm = build_algorithm(AlgorithmSection(name=name, controls=tuple(sorted(CONTROLS)), entropy_coef=0.01))
    algorithm.validate(available_columns(reference=True, critic=True), group_size=8)
    names = [part.name for part in (*algorithm.advantage_transforms, *algorithm.filters)]
    assert len(names) == len(set(names))


def test_all_controls_together_keep_the_order_of_rows(sampled):
    model, _, table, rows = sampled

    def algorithm():
        controls = tuple(
            {"name": name, **ACTING[name]} for name in ("agentic_clip", *sorted(set(CONTROLS) - {"agentic_clip"}))
        )
        return build_algorithm(AlgorithmSection(controls=controls))

    expected = step(model, table, rows, algorithm())
    assert_same(step(model, table, rows[::-1], algorithm(), micro_batch_tokens=1), expected)


def test_every_control_has_its_case_here():
    assert set(ACTING) == set(CONTROLS)


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_its_section_can_be_sent_to_another_process(name):
    section = AlgorithmSection(controls=({"name": name, **ACTING[name]},))
    again = pickle.loads(pickle.dumps(section))
    assert again == section
    assert build_algorithm(again).needs == build_algorithm(section).needs
