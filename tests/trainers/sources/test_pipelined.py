from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.trajectories import read_trajectories
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.sources.pipelined import scheduled_version, staleness, staleness_metrics
from tests.light_switch import LightSwitch
from tests.team_switch import TeamSwitch
from tests.trainers.learner.test_per_policy import team_config
from tests.trainers.test_loop import assert_equal_weights, switch_config


def mode_config(
    policy: Path, out: Path, *, overprovision: float = 0.0, max_resample: int = 0, **trainer: object
) -> Config:
    data = switch_config(policy, out, **trainer).model_dump()
    data["rollout"] |= {"overprovision": overprovision, "max_resample": max_resample}
    return validate_config(data)


def played(run_dir: Path) -> dict[int, list[Trajectory]]:
    """Trajectories by step, from 1."""
    files = sorted((run_dir / "trajectories").iterdir())
    return {number: list(read_trajectories(file)) for number, file in enumerate(files, start=1)}


def assert_accounted(run_dir: Path, num_tasks: int = 8) -> None:
    """Every drawn group was trained once, dropped with a reason, or is pending; nothing was trained twice."""
    rows = read_metrics(run_dir / "metrics.jsonl")
    for row in rows:
        assert row["queue/drawn"] == row["queue/trained"] + row["queue/dropped_stale"] + row["queue/pending"]
    groups = Counter(group for step in played(run_dir).values() for group in {t.group_id for t in step})
    assert set(groups.values()) == {1}
    assert len(groups) == rows[-1]["queue/trained"] == num_tasks * len(rows)


def test_the_schedule_follows_from_interval_and_offset():
    assert [scheduled_version(t, 1, 0) for t in range(1, 6)] == [0, 1, 2, 3, 4]
    assert [scheduled_version(t, 1, 1) for t in range(1, 6)] == [0, 0, 1, 2, 3]
    assert [scheduled_version(t, 3, 0) for t in range(1, 8)] == [0, 0, 0, 3, 3, 3, 6]
    assert [scheduled_version(t, 2, 1) for t in range(1, 8)] == [0, 0, 0, 2, 2, 4, 4]
    for interval in (1, 2, 5):
        for offset in (0, 1, 3):
            for t in range(offset + 1, 40):
                lag = t - 1 - scheduled_version(t, interval, offset)
                assert lag == offset + (t - 1 - offset) % interval
                assert scheduled_version(t, interval, offset) % interval == 0


@pytest.mark.parametrize(("interval", "offset"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_every_turn_was_sampled_by_the_version_of_the_schedule(switch_policy, tmp_path, interval, offset):
    config = mode_config(
        switch_policy, tmp_path / "run", mode="one_step_off", sync_interval=interval, sync_offset=offset, steps=7
    )
    train(config)
    for step, trajectories in played(tmp_path / "run").items():
        versions = {turn.policy_version for t in trajectories for turn in t.turns}
        assert versions == {scheduled_version(step, interval, offset)}
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    lags = [t - 1 - scheduled_version(t, interval, offset) for t in range(1, 8)]
    assert [row["staleness/max"] for row in rows] == lags
    assert [row["staleness/mean"] for row in rows] == lags
    assert all(row["staleness/mixed"] == 0 for row in rows)


def test_with_an_interval_and_no_offset_the_sampler_lags_as_the_schedule_says(switch_policy, tmp_path):
    train(mode_config(switch_policy, tmp_path / "run", sync_interval=3, steps=7))
    for step, trajectories in played(tmp_path / "run").items():
        versions = {turn.policy_version for t in trajectories for turn in t.turns}
        assert versions == {scheduled_version(step, 3, 0)}


def test_one_step_off_is_as_reproducible_as_in_step_and_learns(switch_policy, tmp_path):
    for name in ("a", "b"):
        result = train(mode_config(switch_policy, tmp_path / name, mode="one_step_off", steps=20))
        assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.3
    assert_equal_weights(tmp_path / "a", tmp_path / "b")


def test_evaluations_in_between_do_not_change_what_one_step_off_trains(switch_policy, tmp_path):
    for name, every in (("without", 0), ("with", 1)):
        config = mode_config(switch_policy, tmp_path / name, mode="one_step_off", sync_offset=2, steps=6)
        train(config.model_copy(update={"eval": config.eval.model_copy(update={"every": every})}))
    assert_equal_weights(tmp_path / "without", tmp_path / "with")


@pytest.mark.parametrize("staleness_bound", [0, 1, 3])
def test_async_learns_within_its_bound_and_accounts_for_every_group(switch_policy, tmp_path, staleness_bound):
    # A delayed gradient of the rate that is right for one in time would overshoot.
    settings = {"max_staleness": staleness_bound, "steps": 30, "learning_rate": 5e-3}
    result = train(mode_config(switch_policy, tmp_path / "run", mode="async", **settings))
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.3
    assert_accounted(tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert max(row["staleness/max"] for row in rows) <= staleness_bound
    assert rows[-1]["queue/pending"] == staleness_bound * 8
    assert max(row["drift/logprob_max"] for row in rows) < 1e-3


def test_partial_rollouts_end_a_step_with_the_groups_that_it_needs(switch_policy, tmp_path):
    result = train(mode_config(switch_policy, tmp_path / "run", overprovision=0.5, steps=20))
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.3
    assert_accounted(tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {row["queue/pending"] for row in rows} == {4}
    assert max(row["staleness/max"] for row in rows) >= 1


def test_groups_without_signal_are_replaced_in_async_mode_too(switch_policy, tmp_path):
    train(mode_config(switch_policy, tmp_path / "run", mode="async", max_resample=2, steps=4))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all(row["group/num"] - row["group/without_signal"] == 8 or row["group/num"] == 24 for row in rows)
    assert max(row["group/num"] for row in rows) > 8


class ForegoneGame(TeamSwitch):
    """A zero-sum game whose outcome is the same whatever is done: each agent's returns are all equal."""

    def _act(self, agent: str, action: str) -> str | None:
        following = super()._act(agent, "wait")
        if following is None:
            for each, reward in zip(self.possible_agents, (1.0, -1.0), strict=True):
                self.give(each, reward)
        return following


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_game_that_always_ends_the_same_has_no_signal_for_either_agent(switch_policy, tmp_path, mode):
    config = team_config(
        switch_policy,
        tmp_path / "run",
        env={"id": "tests.trainers.sources.test_pipelined:ForegoneGame"},
        rollout={"num_tasks": 2, "group_size": 2, "max_steps": 9, "max_resample": 2},
        trainer={"steps": 1, "mode": mode},
        team={"weights": "shared"},
    )
    train(config)
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert (row["group/num"], row["group/without_signal"]) == (12, 12)  # of 6 played groups, each of two agents
    assert (row["seat/a/return"], row["seat/b/return"]) == (1, -1)


@pytest.mark.parametrize("mode", [{"mode": "one_step_off"}, {"mode": "async"}, {"overprovision": 0.5}])
def test_a_run_killed_in_the_background_modes_goes_on_without_loss_or_double(switch_policy, tmp_path, mode):
    config = mode_config(switch_policy, tmp_path / "run", steps=6, **mode)
    script = (
        "import os, signal, sys\n"
        "from agentgym_rft.config.run import Config\n"
        "from agentgym_rft.trainers import loop\n"
        "from agentgym_rft.trainers.learner import group\n"
        "columns, count = group.columns, []\n"
        "def dying(*args, **options):\n"
        "    count.append(1)\n"
        "    if len(count) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return columns(*args, **options)\n"
        "group.columns = dying\n"
        "loop.train(Config.model_validate_json(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", script, config.model_dump_json()], cwd=root, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL
    result = train(config, resume=tmp_path / "run")
    assert result.num_steps == 6
    steps = played(tmp_path / "run")
    groups = Counter(group for step in steps.values() for group in {t.group_id for t in step})
    assert set(groups.values()) == {1}
    assert [len({t.group_id for t in step}) for step in steps.values()] == [8] * 6
    if mode != {"mode": "one_step_off"}:
        assert_accounted(tmp_path / "run")


def test_what_an_episode_raises_by_a_mistake_of_ours_fails_the_run(switch_policy, tmp_path):
    config = mode_config(switch_policy, tmp_path / "run", mode="async").model_dump()
    config["env"] = {"id": "tests.trainers.sources.test_pipelined:Unmakeable"}
    config["eval"] = {"num_tasks": 0}
    with pytest.raises(MemoryError, match="no room"):
        train(validate_config(config))


class Unmakeable(LightSwitch):
    """Can be made once only: by the checks before a run."""

    made = 0

    def __init__(self):
        Unmakeable.made += 1
        if Unmakeable.made > 1:
            raise MemoryError("no room")
        super().__init__()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"overprovision": 0.5, "mode": "async"}, "is for trainer.mode=sync"),
        ({"overprovision": 0.5, "mode": "one_step_off"}, "is for trainer.mode=sync"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(switch_policy, tmp_path, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train(mode_config(switch_policy, tmp_path / "run", **settings))


def turn(version: int, last: int | None = None) -> Turn:
    return Turn((1,), (2,), (-0.5,), policy_version=version, last_version=last)


def group_of(*turns: Turn) -> Group:
    trajectory = Trajectory("t", "g", "g/0", turns, StopReason.FAILURE, rewards={"env": 0.0})
    return Group("g", "t", (trajectory,))


def test_staleness_is_that_of_the_oldest_turn():
    assert staleness(group_of(turn(3), turn(5)), version=7) == 4
    assert staleness(group_of(), version=7) == 0
    assert staleness_metrics([group_of(turn(3), turn(5, 6))], 7) == {
        "staleness/mean": 3.0,
        "staleness/max": 4.0,
        "staleness/mixed": 0.5,
    }
