"""What entropy controllers remember, and what follows from it."""

from __future__ import annotations

import json

import pytest

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import CheckpointError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.entropy.controllers import (
    AdaptiveTemperature,
    EntropyAnchor,
    EntropyHistory,
    TargetEntropy,
)
from agentgym_rft.trainers.algorithms.parts import Context
from tests.trainers.algorithms.entropy.entropy_tables import entropy_table

CONTEXT = Context()
TABLE = entropy_table([[2, 1], [1]], entropy=[0.2, 0.4, 0.9, 0.5])


def saw(controller, *entropies):
    for entropy in entropies:
        controller.observe(TABLE, {"entropy/mean": entropy})
    return controller(CONTEXT)


def test_the_coefficient_rises_below_the_target_and_falls_above():
    controller = TargetEntropy(0.5, 0.1, 0.0, 0.08, "token")
    assert controller(CONTEXT) == 0
    assert saw(controller, 0.3) == pytest.approx(0.02)
    assert saw(controller, 0.6) == pytest.approx(0.01)
    assert saw(controller, 9.0) == 0
    assert saw(controller, 0.0, 0.0) == 0.08
    assert saw(TargetEntropy(0.5, 0.1, -1.0, 1.0, "token"), 1.5) == pytest.approx(-0.1)


def test_a_target_entropy_is_reached_in_a_simulated_loop():
    controller, entropy = TargetEntropy(0.5, 0.2, 0.0, 1.0, "token"), 0.9
    for _ in range(300):
        entropy += 0.1 * (2 * controller(CONTEXT) - entropy)  # decays by itself, held up by the bonus
        controller.observe(TABLE, {"entropy/mean": entropy})
    assert entropy == pytest.approx(0.5, abs=0.01)
    assert controller(CONTEXT) == pytest.approx(0.25, abs=0.01)


def test_the_temperature_is_high_after_a_step_of_low_entropy_else_low():
    controller = AdaptiveTemperature(0.5, 0.8, 1.2, "token")
    assert controller(CONTEXT) == 1
    assert saw(controller, 0.4) == 1.2
    assert saw(controller, 0.6) == 0.8
    assert saw(controller, 0.5) == 0.8


@pytest.mark.parametrize(("unit", "mean"), [("turn", (0.3 + 0.9 + 0.5) / 3), ("trajectory", (0.5 + 0.5) / 2)])
def test_above_tokens_the_entropy_is_a_mean_over_units(unit, mean):
    controller = TargetEntropy(mean, 1.0, -1.0, 1.0, unit)
    assert saw(controller, 7.0) == pytest.approx(0, abs=1e-12)


def test_a_step_without_an_entropy_changes_nothing():
    controller = TargetEntropy(0.5, 0.1, 0.0, 1.0, "token")
    controller.observe(TABLE, {})
    assert controller(CONTEXT) == 0


def test_the_history_is_the_mean_over_steps_at_each_turn_number():
    history = EntropyHistory("token")
    assert history.means(TABLE).isnan().all()
    history.observe(TABLE, {})  # turn 0: (.2 + .4 + .5) / 3; turn 1: .9
    expected = [1.1 / 3] * 2 + [0.9, 1.1 / 3]
    assert history.means(TABLE).tolist() == pytest.approx(expected)
    history.observe(entropy_table([[1]], entropy=[1.0]), {})
    longer = entropy_table([[1, 1, 1]], entropy=[0.0] * 3)
    assert history.means(longer)[:2].tolist() == pytest.approx([(1.1 / 3 + 1) / 2, 0.9])
    assert history.means(longer)[2].isnan()


def test_the_history_of_turns_is_over_their_means_and_leaves_auxiliary_ones_out():
    history = EntropyHistory("turn")
    table = entropy_table([[2, 1], [1], [1, 1]], auxiliary=1, entropy=[0.2, 0.4, 0.9, 0.5, 8, 8])
    history.observe(table, {})
    assert history.means(table).tolist() == pytest.approx([0.4, 0.4, 0.9, 0.4, 0.4, 0.9])


def test_the_anchor_is_the_first_value():
    anchor = EntropyAnchor(lambda table: float(table.columns["entropy"].sum()))
    assert anchor.value is None
    anchor.observe(TABLE, {})
    anchor.observe(entropy_table([[1]], entropy=[9.0]), {})
    assert anchor.value == pytest.approx(2.0)


MAKERS = {
    "target_entropy": lambda: TargetEntropy(0.5, 0.01, 0.0, 1.0, "token"),
    "adaptive_temperature": lambda: AdaptiveTemperature(0.5, 0.8, 1.2, "token"),
    "epo": lambda: EntropyHistory("turn"),
    "siren": lambda: EntropyAnchor(lambda table: float(table.columns["entropy"].sum())),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_state_of_a_controller_survives_a_restart_as_json(name):
    controller, other = MAKERS[name](), MAKERS[name]()
    assert controller.name == name
    fresh = controller.state_dict()
    other.load_state_dict(json.loads(json.dumps(fresh)))
    assert other.state_dict() == fresh
    controller.observe(TABLE, {"entropy/mean": 0.123})
    assert controller.state_dict() != fresh
    other.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    table = entropy_table([[1, 1, 1]], entropy=[0.7] * 3)
    for each in (controller, other):
        each.observe(table, {"entropy/mean": 0.456})
    assert other.state_dict() == controller.state_dict()


def test_an_algorithm_saves_its_controllers_by_name():
    controls = ("epo", "siren", "target_entropy", "adaptive_temperature")
    algorithm = build_algorithm(AlgorithmSection(controls=controls))
    state = json.loads(json.dumps(algorithm.state_dict()))
    assert set(state) == set(controls)
    other = build_algorithm(AlgorithmSection(controls=controls))
    other.load_state_dict({**state, "siren": {"anchor": 0.25}})
    assert other.state_dict()["siren"] == {"anchor": 0.25}
    with pytest.raises(CheckpointError, match="controllers are"):
        build_algorithm(AlgorithmSection(controls=("epo",))).load_state_dict(state)


def test_an_adaptive_temperature_replaces_the_rollouts_own():
    algorithm = build_algorithm(AlgorithmSection(controls=({"name": "adaptive_temperature", "high": 1.5},)))
    algorithm.observe(TABLE, {"entropy/mean": 0.1})
    assert algorithm.temperature(CONTEXT) == 1.5
