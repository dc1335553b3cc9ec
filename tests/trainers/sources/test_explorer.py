from __future__ import annotations

from agentgym_rft.config.load import validate_config
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.trajectories import read_trajectories
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.run import build
from tests.trainers.test_loop import switch_config


def test_a_task_that_comes_twice_in_a_step_makes_two_groups(switch_policy, tmp_path):
    """The split has 30 tasks, so that 10 of 40 come again in the next pass."""
    data = switch_config(switch_policy, tmp_path / "run", steps=1).model_dump()
    train(validate_config(data | {"rollout": data["rollout"] | {"num_tasks": 40}, "eval": {"num_tasks": 0}}))
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert (row["group/num"], row["episode/num"], row["episode/errors"]) == (40, 160, 0)
    played = list(read_trajectories(tmp_path / "run" / "trajectories"))
    assert len({trajectory.group_id for trajectory in played}) == 40
    assert len({trajectory.episode_id for trajectory in played}) == 160


def test_what_a_store_gives_is_not_played_and_the_configuration_says_so_still(switch_policy, tmp_path):
    data = switch_config(switch_policy, tmp_path / "run", steps=1).model_dump()
    config = validate_config(data | {"store": {"replay_share": 0.25, "max_uses": 2}})
    parts = build(config, tmp_path / "run")
    parts.workers.close()
    num_tasks = config.rollout.num_tasks
    assert (parts.explorer.groups_per_step, parts.explorer.config.rollout.num_tasks) == (num_tasks * 3 // 4, num_tasks)
