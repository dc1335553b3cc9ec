"""A disk that is full stops a run, and nothing else does."""

from __future__ import annotations

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.errors import StorageError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.loop import train
from tests.disk import files_up_to
from tests.trainers.test_loop import switch_config


def config_of(policy, folder, **run):
    data = switch_config(policy, folder, steps=1).model_dump()
    many = data["rollout"] | {"num_tasks": 20}
    return validate_config(data | {"run": data["run"] | run, "rollout": many, "eval": {"num_tasks": 0}})


def test_a_journal_that_cannot_grow_stops_the_run_and_costs_no_episode(switch_policy, tmp_path):
    config = config_of(switch_policy, tmp_path / "run", save_trajectories=False)
    with (
        files_up_to(4000),
        pytest.raises(StorageError, match=r"Cannot write the journal .*: File too large\. The"),
    ):
        train(config)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == []
    assert train(config, resume=tmp_path / "run").num_steps == 1
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert row["resume/replayed"] > 30  # what was written before is not lost
    assert row["episode/errors"] == 0


def test_trajectories_that_cannot_be_written_stop_the_run_with_advice(switch_policy, tmp_path):
    config = config_of(switch_policy, tmp_path / "run", journal=False)
    go_on = "Make room and go on with: agentgym train --resume"
    with files_up_to(3500), pytest.raises(StorageError, match=f"Cannot write to '.*/run': File too large. {go_on}"):
        train(config)
    assert train(config, resume=tmp_path / "run").num_steps == 1
