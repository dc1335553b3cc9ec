"""Several agents on Ray: seats that only play, and episodes of which nothing comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.rollouts.make import make_workers
from agentgym_rft.rollouts.policies import load_policy_model
from agentgym_rft.rollouts.ray.workers import RayWorkers
from agentgym_rft.rollouts.strategies import GroupPlan, plain
from agentgym_rft.store.trajectories import read_trajectories
from agentgym_rft.trainers.batch.groups import by_seat, split_errors
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.metrics import seat_metrics
from tests.rollouts.ray.playing import spec
from tests.team_switch import TeamSwitch
from tests.trainers.test_loop import assert_equal_weights


class DeadlySwitch(TeamSwitch):
    """Takes its whole process down where b says something."""

    def _act(self, agent: str, action: str) -> str | None:
        if agent == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._act(agent, action)


def team_data(policy: str, env: str, **section: object) -> dict[str, Any]:
    return {
        "env": {"id": env},
        "policy": {"path": policy, "max_context": 64, "num_threads": 1, "device": "cpu", "deterministic": True},
        "rollout": {
            "num_tasks": 4,
            "group_size": 4,
            "max_steps": 9,
            "workers": "ray",
            "ray": {"num_cpus": 0, **section},
        },
        "trainer": {"steps": 2, "learning_rate": 1e-2, "warmup_steps": 0},
        "team": {"seats": {"b": {"policy": policy}}},
        "eval": {"num_tasks": 0},
    }


def episodes(run_dir: Path, step: int) -> dict[tuple[str, str], list[tuple[int, ...]]]:
    """What every agent sampled."""
    path = run_dir / "trajectories" / f"step_{step:06d}.jsonl.zst"
    return {(t.episode_id, t.agent_id): [tuple(turn.action_ids) for turn in t.turns] for t in read_trajectories(path)}


@pytest.mark.parametrize("replicas", [0, 1], ids=["own policies", "replicas"])
def test_a_team_run_on_ray_with_a_frozen_seat_is_the_run_in_one_process(cluster, switch_policy, tmp_path, replicas):
    data = team_data(str(switch_policy), "tests.team_switch:TeamSwitch", num_workers=1, policy_replicas=replicas)
    there = train(validate_config({**data, "run": {"out": str(tmp_path / "there")}}))
    data["rollout"]["workers"] = "local"
    here = train(validate_config({**data, "run": {"out": str(tmp_path / "here")}}))
    for step in (1, 2):
        played = episodes(here.run_dir, step)
        assert len(played) == 32
        assert played == episodes(there.run_dir, step)
    assert_equal_weights(here.run_dir, there.run_dir)


def test_a_lost_episode_has_an_errored_part_for_every_seat(cluster, switch_policy):
    data = team_data(str(switch_policy), "tests.rollouts.ray.test_teams:DeadlySwitch", num_workers=1, max_replays=0)
    config = validate_config(data)
    _, tokenizer = load_policy_model(config.policy)
    workers = make_workers(config, tokenizer, None)
    assert isinstance(workers, RayWorkers)
    try:
        plan = GroupPlan(spec(workers, 1), group_size=2)
        group = workers.run(lambda: plain(plan, workers))
    finally:
        workers.close()
    assert [t.agent_id for t in group.trajectories] == ["a", "b"] * 2
    assert {t.info["error"]["type"] for t in group.trajectories} == {"WorkerLost"}
    assert [t.info["is_trained"] for t in group.trajectories] == [True, False] * 2
    parts = by_seat([group])
    assert [t.agent_id for part in parts for t in part.trajectories] == ["a", "a"]
    assert split_errors(parts) == ([], {"env_error": 2})
    assert seat_metrics(parts) == {}
