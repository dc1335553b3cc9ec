"""One evaluation without the command: what it refuses, what it tells, and that a training run evaluates alike."""

from __future__ import annotations

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.players import AgentWorkers
from agentgym_rft.evaluation.run import Request, run_evaluation
from tests.cli.eval_envs import Interrupted

COUNTED = "tests.envs.counted_env:Counted"


class Recorded:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.told = []

    def start(self, num_episodes, finished):
        self.told.append(("start", num_episodes, len(finished)))

    def episode(self, trajectory):
        self.told.append(("episode", trajectory.task_id))

    def note(self, message):
        self.told.append(("note", message))

    def finish(self):
        self.told.append(("finish",))


def request(env, policy, **more):
    config = validate_config({"env": {"id": env}, "policy": {"path": policy, "max_concurrency": 1}})
    return Request(config, policy, **more)


def test_a_request_is_checked_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="--samples 2 at temperature 0"):
        run_evaluation(Request(Config(), "seed", samples=2))


def test_an_evaluation_tells_of_every_episode_and_prints_nothing(capfd):
    progress = Recorded()
    summary = run_evaluation(request(COUNTED, "oracle"), progress)
    tasks = [("episode", row["task_id"]) for row in summary["tasks"]]
    assert progress.told == [("start", 3, 0), *tasks, ("finish",)]
    assert run_evaluation(request(COUNTED, "oracle")) | {"wall_time_s": 0} == summary | {"wall_time_s": 0}
    assert capfd.readouterr() == ("", "")


def test_the_summary_is_kept_before_anything_is_closed(monkeypatch):
    kept = []

    def breaks(workers):
        raise RuntimeError("the door is stuck")

    monkeypatch.setattr(AgentWorkers, "close", breaks)
    with pytest.raises(RuntimeError, match="stuck"):
        run_evaluation(request(COUNTED, "oracle"), keep=kept.append)
    assert [summary["success"] for summary in kept] == [1.0]


def test_an_interrupted_evaluation_says_what_is_kept_and_where_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Interrupted, "is_pressed", False)  # whatever ran before
    asked = request("tests.cli.eval_envs:Interrupted", "oracle", out=tmp_path / "result.json")
    first, second = Recorded(), Recorded()
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(asked, first)
    kept = sum(event[0] == "episode" for event in first.told)
    assert 0 < kept < 3
    assert first.told[-2:] == [("note", f"{kept} of 3 episodes are kept; the same command goes on."), ("finish",)]
    assert run_evaluation(asked, second)["success"] == 1.0
    assert second.told[:2] == [("note", f"going on: {kept} of 3 episodes are there"), ("start", 3, kept)]


def test_a_training_run_and_an_evaluation_of_its_policy_give_the_same_result(switch_policy, tmp_path):
    from agentgym_rft.trainers.loop import train

    config = validate_config(
        {
            "env": {"id": "tests.light_switch:LightSwitch"},
            "policy": {"path": str(switch_policy), "max_context": 64, "num_threads": 1, "device": "cpu"},
            "rollout": {"num_tasks": 2, "group_size": 2, "max_steps": 4},
            "trainer": {"steps": 1},
            "eval": {"num_tasks": 10, "temperature": 1.0},
            "run": {"out": str(tmp_path / "run")},
        }
    )
    trained = train(config).evaluations[0]
    alone = run_evaluation(Request(config, str(switch_policy)))
    assert trained["policy"] == "run@0"
    assert trained | {"policy": "", "wall_time_s": 0} == alone | {"policy": "", "wall_time_s": 0}
    assert list(trained) == list(alone)
