from __future__ import annotations

import pytest

from agentgym_rft.trainers.metrics import generation_metrics, idle_share, rollout_metrics
from tests.rollouts.ladder import SUCCESS, Climber, play, reply, report, workers
from tests.trainers.tiny import fixed_groups

LOSING = ["up", "down", "down", "down"]


def test_the_idle_share_is_that_of_all_cores():
    assert idle_share(3.0, 2.0, 2) == 0.25
    assert idle_share(0.0, 2.0, 2) == 1.0
    assert idle_share(4.1, 2.0, 2) == 0.0


def test_plain_episodes_count_their_turns_and_tokens_and_no_reflections():
    metrics = generation_metrics(fixed_groups([[1, 0], [0]], [[2, 3], [4]]))
    assert metrics == {"rollout/turns": 3.0, "rollout/generated_tokens": 9.0}


def test_reflections_and_the_new_turns_of_retries_are_counted_once():
    metrics = generation_metrics([play(workers(Climber(LOSING, report(1))), measure_pivots=True)])
    assert metrics["rollout/turns"] == 4 + 2
    ups, downs = len(reply("up")), len(reply("down"))
    assert metrics["rollout/generated_tokens"] == (ups + 3 * downs) + len(reply(report(1))) + 2 * ups
    assert metrics["reflect/valid"] == metrics["reflect/retries"] == metrics["reflect/num"] == 1.0
    assert metrics["reflect/improved"] == metrics["reflect/verified"] == metrics["reflect/pivot_near"] == 1.0
    assert metrics["reflect/leaked"] == metrics["reflect/refused_no_json"] == 0.0


def test_a_retry_that_did_not_join_its_group_counts_too():
    joined = generation_metrics([play(workers(Climber(LOSING, report(1))))])
    left_out = generation_metrics([play(workers(Climber(LOSING, report(1))), num_joined=0)])
    assert left_out == joined


def test_refusals_are_shares_by_reason_and_nothing_is_said_of_retries_that_did_not_run():
    words = {"g/0/reflection": "none", "g/1/reflection": report(9), "g/2/reflection": SUCCESS, "g/3/reflection": "{"}
    metrics = generation_metrics([play(workers(Climber(LOSING, words.__getitem__)), size=8)])
    assert metrics["reflect/valid"] == 0.25
    refused = {key: value for key, value in metrics.items() if "refused" in key and value}
    assert refused == {
        "reflect/refused_no_json": 0.25,
        "reflect/refused_pivot_out_of_range": 0.25,
        "reflect/refused_cut_off": 0.25,
    }
    assert "reflect/improved" not in metrics


@pytest.mark.parametrize(("pivot", "near"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_a_pivot_is_near_within_one_turn_of_the_environments_own(pivot, near):
    group = play(workers(Climber(LOSING, report(pivot))), measure_pivots=True)
    assert generation_metrics([group])["reflect/pivot_near"] == near


def test_the_means_over_episodes_leave_retries_out():
    group = play(workers(Climber(LOSING, report(1))))
    metrics = rollout_metrics([group], {})
    assert group.trajectories[1].won
    assert (metrics["episode/num"], metrics["episode/success"], metrics["episode/turns"]) == (1.0, 0.0, 4.0)
