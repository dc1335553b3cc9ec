import json

import pytest

from agentgym_rft import __version__
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.panels import Panel
from agentgym_rft.errors import DataError
from agentgym_rft.report.evaluation import EvaluationSettings, read_evaluations, summarise, write_evaluation
from agentgym_rft.report.intervals import bootstrap_mean, wilson
from tests.report.results import result

SETTINGS = EvaluationSettings(policy="seed", seed=3, temperature=0.0, max_steps=50)
PANEL = Panel("agentgym/ALFWorld-v0", "valid_unseen", ("a", "b", "c", "d", "e"), "ab" * 32)


def _trajectory(task_id, stop, num_turns, task_type="heat", score=None):
    info = {"task_type": task_type, "score": float(stop == "success") if score is None else score}
    if stop == "env_error":
        info["error"] = {"type": "KeyError", "message": "mug", "turn": 1}
    turns = tuple(Turn((1,), (2,), (-0.5,)) for _ in range(num_turns))
    return Trajectory(task_id, task_id, task_id, turns, StopReason(stop), info=info)


TRAJECTORIES = [
    _trajectory("e", "env_error", 1, "cool"),
    _trajectory("a", "success", 4),
    _trajectory("b", "failure", 6, score=0.5),
    _trajectory("c", "success", 2, "cool"),
    _trajectory("d", "step_limit", 8, "cool", score=0.25),
]


def test_rates_are_over_the_tasks_without_error():
    summary = summarise(TRAJECTORIES, PANEL, SETTINGS)
    assert (summary["num_tasks"], summary["num_errors"], summary["num_won"]) == (5, 1, 2)
    assert summary["success"] == 0.5
    # Wilson, 2 of 4: z^2 = 3.841459, spread 1.959964 sqrt(0.0625 + 3.841459 / 64) / 1.960365 = 0.349986
    assert summary["success_ci95"] == [pytest.approx(0.150036, abs=1e-5), pytest.approx(0.849964, abs=1e-5)]
    assert summary["score"] == pytest.approx((1 + 0.5 + 1 + 0.25) / 4)
    assert summary["mean_turns"] == 5.0
    assert summary["errors"] == {"env_error": 1}


def test_the_summary_names_what_the_result_depends_on():
    summary = summarise(TRAJECTORIES, PANEL, SETTINGS)
    expected = {
        "env": "agentgym/ALFWorld-v0",
        "split": "valid_unseen",
        "panel_hash": "ab" * 32,
        "policy": "seed",
        "seed": 3,
        "temperature": 0.0,
        "max_steps": 50,
        "samples": 1,
        "wall_time_s": None,
        "held_out_of": None,
        "notes": [],
        "version": __version__,
        "protocol": {
            "env": "agentgym/ALFWorld-v0",
            "options": {},
            "split": "valid_unseen",
            "panel_hash": "ab" * 32,
            "card": None,
            "max_steps": 50,
            "temperature": 0.0,
            "samples": 1,
        },
    }
    assert {key: summary[key] for key in expected} == expected
    assert json.loads(json.dumps(summary)) == summary


def test_there_is_a_row_a_task_in_the_order_of_the_panel():
    rows = summarise(TRAJECTORIES, PANEL, SETTINGS)["tasks"]
    assert [row["task_id"] for row in rows] == list(PANEL.task_ids)
    assert rows[1] == {
        "task_id": "b",
        "task_type": "heat",
        "success": False,
        "score": 0.5,
        "turns": 6,
        "invalid_actions": 0,
        "sampled_tokens": 6,
        "context_tokens": 6,
        "stop_reason": "failure",
    }
    assert rows[4]["success"] is None
    assert rows[4]["error"]["message"] == "mug"


def test_types_are_summed_apart():
    by_type = summarise(TRAJECTORIES, PANEL, SETTINGS)["by_type"]
    assert list(by_type) == ["cool", "heat"]
    assert (by_type["cool"]["num_tasks"], by_type["cool"]["num_errors"], by_type["cool"]["success"]) == (3, 1, 0.5)
    assert by_type["heat"]["success"] == 0.5


def test_an_environment_without_types_has_no_rows_by_type():
    trajectory = _trajectory("a", "success", 1, task_type="")
    assert summarise([trajectory], Panel("e", "train", ("a",), ""), SETTINGS)["by_type"] == {}


def test_only_errors_leave_no_rate():
    summary = summarise([_trajectory("a", "env_error", 0)], Panel("e", "train", ("a",), ""), SETTINGS)
    assert summary["success"] is None
    assert summary["success_ci95"] == [0.0, 1.0]


def test_several_samples_count_by_their_rates_and_errors_are_no_failures():
    found = result("p", [[True, True, False], [None, None, True], [False, False, False], [None] * 3], samples=3)
    assert (found["num_tasks"], found["num_episodes"], found["num_errors"], found["num_won"]) == (4, 12, 5, 3)
    assert found["success"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["success_ci95"] == list(wilson(2 / 3 + 1, 3))
    rows = found["tasks"]
    assert [row["success"] for row in rows] == [pytest.approx(2 / 3), 1.0, 0.0, None]
    assert [sample["success"] for sample in rows[1]["samples"]] == [None, None, True]
    assert rows[3]["samples"][0]["error"]["type"] == "KeyError"
    assert "samples" not in result("p", [True])["tasks"][0]


def test_pass_at_k_is_over_the_tasks_with_so_many_valid_samples():
    found = result("p", [[True, True, False], [None, None, True], [False, False, False]], samples=3)["pass_at_k"]
    assert list(found) == ["1", "2", "3"]
    # pass@1: 2/3, 1, 0. pass@2: 1 - C(1,2)/C(3,2) = 1, and 0; the second task has one valid sample only.
    assert (found["1"]["value"], found["1"]["num_tasks"]) == (pytest.approx((2 / 3 + 1) / 3), 3)
    assert (found["2"]["value"], found["2"]["num_tasks"]) == (0.5, 2)
    assert found["2"]["ci95"] == list(bootstrap_mean([1.0, 0.0]))
    assert result("p", [True])["pass_at_k"] == {}
    assert list(result("p", [[True] * 6], samples=6)["pass_at_k"]) == ["1", "2", "4", "6"]
    assert result("p", [[None] * 2], samples=2)["pass_at_k"] == {}


def test_tokens_and_invalid_actions_are_means_over_the_valid_episodes():
    found = result("p", [True, False, None])
    assert (found["sampled_tokens"], found["context_tokens"], found["invalid_actions"]) == (3.0, 4.0, 0.5)
    assert found["wall_time_s"] == 1.5


def test_replies_without_an_action_are_counted_by_reason():
    reasons = ("no_think", "", "refused", "no_think", "empty")
    turns = tuple(Turn((), (), (), info={"invalid_action": reason}) for reason in reasons)
    played = [Trajectory("a", "a", "a", turns, StopReason.FAILURE)]
    found = summarise(played, Panel("e", "train", ("a",), ""), SETTINGS)
    assert (found["unparsed"], found["invalid_actions"]) == ({"empty": 1, "no_think": 2}, 0.8)


def test_a_player_without_tokens_has_none():
    turns = (Turn((), (), (), info={"invalid_action": ""}),)
    played = [Trajectory("a", "a", "a", turns, StopReason.SUCCESS)]
    found = summarise(played, Panel("e", "train", ("a",), ""), SETTINGS)
    assert (found["sampled_tokens"], found["context_tokens"], found["invalid_actions"]) == (None, None, 0.0)


def test_an_endpoints_own_count_of_tokens_is_taken():
    turns = tuple(Turn((), (), (), info={"sampled_tokens": 3, "context_tokens": n}) for n in (10, 20))
    played = [Trajectory("a", "a", "a", turns, StopReason.SUCCESS)]
    found = summarise(played, Panel("e", "train", ("a",), ""), SETTINGS)
    assert (found["sampled_tokens"], found["context_tokens"]) == (6.0, 30.0)


@pytest.mark.parametrize("wrong", [TRAJECTORIES[:4], [*TRAJECTORIES, TRAJECTORIES[0]], [*TRAJECTORIES[:4]] * 2])
def test_trajectories_must_cover_the_panel_once(wrong):
    with pytest.raises(ValueError, match="do not cover the panel's 5 tasks"):
        summarise(wrong, PANEL, SETTINGS)


def test_a_split_whose_name_is_no_file_name_keeps_its_evaluations(tmp_path):
    summary = {**summarise(TRAJECTORIES, PANEL, SETTINGS), "split": "../valid/easy"}
    write_evaluation(tmp_path / "run", 3, summary)
    assert read_evaluations(tmp_path / "run") == [(3, summary)]
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_evaluations_of_a_run_are_read_in_order(tmp_path):
    summary = summarise(TRAJECTORIES, PANEL, SETTINGS)
    for step in (20, 0, 100):
        write_evaluation(tmp_path, step, summary)
    assert read_evaluations(tmp_path) == [(0, summary), (20, summary), (100, summary)]
    (tmp_path / "evaluations" / "step_000020_valid_unseen.json").write_text("{")
    with pytest.raises(DataError, match=r"step_000020_valid_unseen\.json' is no result"):
        read_evaluations(tmp_path)
