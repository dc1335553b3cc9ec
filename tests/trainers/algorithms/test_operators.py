from __future__ import annotations

from dataclasses import replace

import pytest

from agentgym_rft.core import Group, StopReason
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms.operators import OPERATORS, apply_operators, build_operators
from agentgym_rft.trainers.batch.groups import to_imitate
from agentgym_rft.trainers.run import build
from tests.trainers.test_loop import switch_config
from tests.trainers.turns import group_of, turn


def applied(entries, *groups):
    return apply_operators(build_operators(entries), groups)


def returns(group):
    return [trajectory.episode_return for trajectory in group.trajectories]


def test_a_group_without_signal_is_dropped_and_counted():
    flat, useful = group_of([turn(1.0)], [turn(1.0)]), group_of([turn(1.0)], [turn(0.0)], group="g1")
    kept, metrics = applied(["drop_without_signal"], flat, useful)
    assert kept == [useful]
    assert metrics == {"operators/dropped_drop_without_signal": 1.0, "operators/removed_drop_without_signal": 0.0}


@pytest.mark.parametrize(("low", "high", "is_kept"), [(0.1, 0.9, True), (0.25, 0.25, True), (0.3, 1.0, False)])
def test_a_group_is_kept_by_its_share_of_won_trajectories(low, high, is_kept):
    group = group_of([turn(1.0)], [turn()], [turn()], [turn()])
    kept, metrics = applied([{"name": "pass_rate_range", "low": low, "high": high}], group)
    assert kept == [group] * is_kept
    assert metrics["operators/dropped_pass_rate_range"] == float(not is_kept)


def test_truncated_trajectories_are_taken_out_and_a_group_of_them_is_dropped():
    group = group_of([turn(1.0)], [turn()])
    cut = replace(group.trajectories[1], stop_reason=StopReason.STEP_LIMIT)
    mixed = replace(group, trajectories=(group.trajectories[0], cut))
    kept, metrics = applied(["drop_truncated"], mixed, replace(group, trajectories=(cut,)))
    assert kept == [replace(group, trajectories=(group.trajectories[0],))]
    assert metrics == {"operators/dropped_drop_truncated": 1.0, "operators/removed_drop_truncated": 1.0}


def test_a_length_penalty_is_a_named_reward_of_the_last_turn():
    group = group_of([turn(tokens=3), turn(1.0, tokens=2)], [turn(tokens=4)])
    (tokens,), _ = applied([{"name": "length_penalty", "coef": 0.1}], group)
    assert returns(tokens) == pytest.approx([1 - 0.5, -0.4])
    assert [t.reward for t in tokens.trajectories[0].turns] == pytest.approx([0.0, 0.5])
    assert tokens.trajectories[0].rewards == pytest.approx({"task": 1.0, "length": -0.5})
    (turns,), _ = applied([{"name": "length_penalty", "coef": 0.1, "unit": "turns"}], group)
    assert returns(turns) == pytest.approx([0.8, -0.1])


def test_returns_are_cut_to_a_range():
    (group,), _ = applied(
        [{"name": "clip_reward", "low": 0, "high": 1}], group_of([turn(3.0)], [turn(-2.0)], [turn(0.5)])
    )
    assert returns(group) == [1.0, 0.0, 0.5]


def test_long_trajectories_are_penalised_as_in_dapo():
    group = group_of([turn(1.0, tokens=8)], [turn(0.0, tokens=10)], [turn(0.0, tokens=2)])
    (after,), _ = applied([{"name": "overlong_penalty", "limit": 10, "buffer": 4}], group)
    assert returns(after) == pytest.approx([0.5, -1.0, 0.0])


def test_operators_run_in_their_order():
    group = group_of([turn(1.0)], [turn(5.0)])
    clip = {"name": "clip_reward", "high": 1}
    assert applied([clip, "drop_without_signal"], group)[0] == []
    assert len(applied(["drop_without_signal", clip], group)[0]) == 1


def test_what_is_only_imitated_passes():
    demonstration = to_imitate(group_of([turn(1.0)]).trajectories[0])
    assert applied(["drop_without_signal", "drop_truncated"], demonstration)[0] == [demonstration]


def test_operators_leave_the_groups_they_are_given_as_they_were():
    group = group_of([turn(1.0)], [turn(0.0)])
    before = repr(group)
    for name in OPERATORS:
        options = {"length_penalty": {"coef": 1}, "overlong_penalty": {"limit": 1}}.get(name, {})
        applied([{"name": name, **options}], group)
    assert repr(group) == before
    assert isinstance(group, Group)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (
            "drop_without_signals",
            RegistryError,
            "Operator 'drop_without_signals' is not registered. Did you mean 'drop_without_signal'?",
        ),
        ({"low": 1}, ConfigError, "An entry of rollout.operators is .*: expected a name"),
        ({"name": "length_penalty", "coeff": 1}, ConfigError, "coef"),
        ({"name": "pass_rate_range", "low": 0.9, "high": 0.1}, ConfigError, "low 0.9 above high 0.1"),
        ({"name": "clip_reward", "low": 2}, ConfigError, "low 2.0 above high 1.0"),
        ({"name": "overlong_penalty", "limit": 1, "buffer": 2}, ConfigError, "buffer 2 above limit 1"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_sentence(entry, error, message):
    with pytest.raises(error, match=message):
        build_operators([entry])


def with_operators(config, *entries):
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"operators": entries})})


def test_a_wrong_operator_is_refused_before_the_policy_is_loaded(tmp_path):
    with pytest.raises(RegistryError, match="is not registered"):
        build(with_operators(switch_config(tmp_path / "no policy", tmp_path / "run"), "drop_everything"))


def test_a_run_counts_what_its_operators_drop_and_still_reports_all_episodes(switch_policy, tmp_path):
    from agentgym_rft.trainers.loop import train

    config = switch_config(switch_policy, tmp_path / "run", steps=2)
    train(with_operators(config, "drop_without_signal", {"name": "length_penalty", "coef": 0.001}))
    for row in read_metrics(tmp_path / "run" / "metrics.jsonl"):
        assert row["operators/dropped_drop_without_signal"] == row["group/without_signal"]
        assert row["episode/num"] == 32
