from __future__ import annotations

import json

import pytest
import torch

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.errors import DataError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.stored_groups import STORED_VERSION, StoredGroups
from agentgym_rft.store.trajectories import TrajectoryWriter
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.loop import train
from tests.trainers.test_loop import assert_equal_weights, switch_config
from tests.trainers.tiny import step, tiny_groups
from tests.trainers.turns import trajectory, turn


@pytest.fixture(scope="module")
def played(switch_policy, tmp_path_factory):
    """A run of three steps that stored its trajectories."""
    out = tmp_path_factory.mktemp("stored") / "run"
    train(switch_config(switch_policy, out, steps=3))
    return out


def offline(policy, out, stored, name, *, options=None, **trainer):
    data = json.loads(switch_config(policy, out, **trainer).model_dump_json())
    data["rollout"] |= {"stored": str(stored), "num_tasks": 8}
    return validate_config(data | {"algorithm": {"name": name, "options": options or {}}})


def test_groups_come_back_as_they_were_stored_but_of_no_current_version(model, tmp_path):
    groups = tiny_groups(model)
    TrajectoryWriter(tmp_path).write(1, [t for group in groups[:2] for t in group.trajectories])
    TrajectoryWriter(tmp_path).write(2, groups[2].trajectories)
    stored = StoredGroups(tmp_path)
    found = stored.groups(stored.keys)
    assert [group.group_id for group in found] == ["g0", "g1", "g2"]
    table, rows = build_table(found, 0)
    expected, _ = build_table(groups, 0)
    assert torch.equal(table.columns["behaviour_logprobs"], expected.columns["behaviour_logprobs"])
    assert torch.equal(table.trajectory_columns["episode_return"], expected.trajectory_columns["episode_return"])
    assert set(table.turn_columns["policy_version"].tolist()) == {STORED_VERSION}
    assert table.turn_columns["on_policy"].sum() == 0
    assert stored.max_token_id == max(int(row.ids.max()) for row in rows)


def test_files_of_different_steps_may_use_the_same_group_id(tmp_path):
    for number in (1, 2):
        TrajectoryWriter(tmp_path).write(number, [trajectory("e", [turn(number)])])
    stored = StoredGroups(tmp_path)
    assert len(stored.keys) == 2
    assert [group.trajectories[0].episode_return for group in stored.groups(reversed(stored.keys))] == [2, 1]


def test_an_offline_step_keeps_the_sampled_log_probs_as_the_ratios_anchor(model, tmp_path):
    groups = tiny_groups(model)
    TrajectoryWriter(tmp_path).write(1, [t for group in groups for t in group.trajectories])
    stored = StoredGroups(tmp_path)
    algorithm = build_algorithm(AlgorithmSection(name="grpo", options={"anchor": "behaviour"}))
    played, replayed = (step(model, *build_table(g, 0), algorithm) for g in (groups, stored.groups(stored.keys)))
    torch.testing.assert_close(played[0], replayed[0])


@pytest.mark.parametrize(("name", "options"), [("sft", {}), ("grpo", {"anchor": "behaviour"}), ("r3l", {})])
def test_an_algorithm_learns_from_the_trajectories_of_another_run(switch_policy, played, tmp_path, name, options):
    result = train(offline(switch_policy, tmp_path / "run", played, name, options=options, steps=40))
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all(row["group/num"] == 8 for row in rows)
    assert {row["rollout/generated_tokens"] for row in rows} == {0}
    assert not (tmp_path / "run" / "trajectories").exists()


def test_a_resumed_offline_run_draws_the_groups_that_come_next(switch_policy, played, tmp_path):
    train(offline(switch_policy, tmp_path / "whole", played / "trajectories", "sft", steps=4))
    for steps in (2, 4):
        config = offline(switch_policy, tmp_path / "parts", played / "trajectories", "sft", steps=steps)
        train(config, resume=tmp_path / "parts" if steps == 4 else None)
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_source_without_usable_trajectories_is_refused_in_one_sentence(switch_policy, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    for path in (folder, tmp_path / "absent"):
        with pytest.raises(DataError, match="has no stored trajectories: there is no file 'step_"):
            StoredGroups(path)
    broken = Trajectory("t", "g", "e", (), StopReason.ENV_ERROR)
    TrajectoryWriter(folder).write(1, [broken])
    with pytest.raises(DataError, match="the 1 files hold no valid one"):
        train(offline(switch_policy, tmp_path / "run", folder, "sft"))


def test_a_damaged_file_is_refused_before_training(tmp_path):
    path = TrajectoryWriter(tmp_path).write(1, [trajectory("e", [turn()])])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="is cut off"):
        StoredGroups(tmp_path)


def test_tokens_that_the_policy_does_not_know_are_refused(switch_policy, tmp_path):
    TrajectoryWriter(tmp_path).write(1, [trajectory("e", [Turn((1,), (99_999,), (-1.0,), reward=1.0)])])
    with pytest.raises(DataError, match="have token 99999, the policy knows"):
        train(offline(switch_policy, tmp_path / "run", tmp_path, "sft"))
