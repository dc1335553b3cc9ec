from __future__ import annotations

from dataclasses import replace

import pytest

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.errors import TokenMismatchError
from agentgym_rft.trainers.batch.groups import split_errors
from agentgym_rft.trainers.batch.table import build_table, check_rows
from tests.trainers.tiny import fixed_groups

TURNS = (
    Turn((1, 2), (3, 4), (-0.1, -0.2), state_key="a", policy_version=7),
    Turn((5,), (6,), (-0.9,), state_key="b", policy_version=7, trainable=False),
    Turn((7,), (8,), (-0.5,), state_key="a", policy_version=6, reward=0.25),
    Turn((9, 9, 9), (8, 3), (-0.3, -0.4), state_key="c", policy_version=7, restart=True),
)
TRAJECTORY = Trajectory("task", "g", "e", TURNS, StopReason.SUCCESS, rewards={"task": 1.0, "shaped": 0.25})


def build(*trajectories: Trajectory, version: int = 7):
    return build_table([Group("g", "task", trajectories)], version)


def test_the_table_has_one_entry_for_each_trained_token_in_order():
    table, _ = build(TRAJECTORY)
    assert table.columns["behaviour_logprobs"].tolist() == pytest.approx([-0.1, -0.2, -0.5, -0.3, -0.4])
    assert table.turn.tolist() == [0, 0, 2, 3, 3]
    assert table.trajectory.tolist() == table.group.tolist() == table.task.tolist() == [0] * 5
    assert table.turn_columns["reward"].tolist() == [0, 0, 0.25, 0]
    assert table.turn_columns["position"].tolist() == [0, 1, 2, 3]
    assert table.turn_columns["state"].tolist() == [0, 1, 0, 2]
    assert table.trajectory_columns["episode_return"].tolist() == [1.25]
    assert table.trajectory_columns["num_turns"].tolist() == [4]
    assert table.trajectory_columns["num_tokens"].tolist() == [5]


def test_a_row_holds_context_and_actions_and_a_restart_opens_the_next():
    _, rows = build(TRAJECTORY)
    assert [row.ids.tolist() for row in rows] == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 9, 8, 3]]
    assert [row.positions.tolist() for row in rows] == [[2, 3, 7], [3, 4]]
    assert [row.index.tolist() for row in rows] == [[0, 1, 2], [3, 4]]


def test_a_row_ends_with_its_last_trained_token():
    turns = (TURNS[0], TURNS[1])
    _, rows = build(replace(TRAJECTORY, turns=turns))
    assert rows[0].ids.tolist() == [1, 2, 3, 4]


def test_a_trajectory_without_trained_tokens_has_no_row_but_its_return_counts():
    table, rows = build(TRAJECTORY, replace(TRAJECTORY, turns=(TURNS[1],)))
    assert {row.trajectory for row in rows} == {0}
    assert table.trajectory_columns["num_tokens"].tolist() == [5, 0]


def test_turns_of_the_given_version_are_on_policy():
    table, _ = build(TRAJECTORY)
    assert table.token_column("on_policy").tolist() == [1, 1, 0, 1, 1]


def test_equal_state_keys_of_different_tasks_are_different_states():
    other = replace(TRAJECTORY, task_id="other")
    table, _ = build_table([Group("g", "task", (TRAJECTORY,)), Group("h", "other", (other,))], 7)
    assert table.turn_columns["state"].tolist() == [0, 1, 0, 2, 3, 4, 3, 5]
    assert table.task.tolist() == table.group.tolist() == [0] * 5 + [1] * 5


def test_errored_trajectories_are_left_out_and_counted_by_reason():
    broken = [replace(TRAJECTORY, stop_reason=reason) for reason in (StopReason.ENV_ERROR, StopReason.TIMEOUT)]
    groups = [Group("g", "task", (TRAJECTORY, *broken)), Group("h", "task", (broken[0],))]
    kept, errors = split_errors(groups)
    assert [group.trajectories for group in kept] == [(TRAJECTORY,)]
    assert errors == {"env_error": 2, "timeout": 1}


def test_an_errored_trajectory_never_gets_into_a_table():
    with pytest.raises(ValueError, match="has no return"):
        build(replace(TRAJECTORY, stop_reason=StopReason.ENV_ERROR))


def test_a_changed_trained_id_is_detected():
    _, rows = build(TRAJECTORY)
    rows[1].ids[3] = 5
    with pytest.raises(
        TokenMismatchError, match="Episode e: 5 trained and 5 sampled tokens, trained token 3 is 5, sam"
    ):
        check_rows(rows, [TRAJECTORY])


def test_a_shifted_position_is_detected():
    _, rows = build(TRAJECTORY)
    rows[0].positions[:] -= 1
    with pytest.raises(TokenMismatchError):
        check_rows(rows, [TRAJECTORY])


def test_a_missing_row_is_detected():
    _, rows = build(TRAJECTORY)
    with pytest.raises(TokenMismatchError, match="3 trained and 5 sampled"):
        check_rows(rows[:1], [TRAJECTORY])


def test_rows_out_of_the_tables_order_are_detected():
    _, rows = build(TRAJECTORY)
    with pytest.raises(TokenMismatchError, match="does not continue"):
        check_rows(rows[::-1], [TRAJECTORY])


def test_as_many_log_probs_as_ids_are_demanded():
    turn = Turn((1,), (2, 3), (-1.0,))
    with pytest.raises(TokenMismatchError, match="2 sampled ids but 1 log-probs"):
        build(replace(TRAJECTORY, turns=(turn,)))


def test_an_action_without_context_is_refused():
    turn = Turn((), (2, 3), (-1.0, -1.0))
    with pytest.raises(TokenMismatchError, match="no context"):
        build(replace(TRAJECTORY, turns=(turn,)))


def test_columns_of_another_length_are_refused():
    table, _ = build_table(fixed_groups([[1, 0]]), 0)
    with pytest.raises(ValueError, match="shape"):
        table.with_columns({"advantage": table.columns["behaviour_logprobs"][:1]})
