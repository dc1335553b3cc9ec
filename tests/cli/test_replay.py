"""`agentgym replay` on files of a run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from agentgym_rft.cli.main import run
from agentgym_rft.store.trajectories import read_trajectories, write_trajectories
from agentgym_rft.trainers.loop import train
from tests.trainers.test_loop import switch_config


@pytest.fixture(scope="module")
def run_dir(switch_policy, tmp_path_factory):
    return train(switch_config(switch_policy, tmp_path_factory.mktemp("replay") / "run", steps=1)).run_dir


def test_a_file_of_a_run_and_one_of_its_episodes_are_identical(run_dir, capsys):
    file = run_dir / "trajectories" / "step_000001.jsonl.zst"
    assert run(["replay", str(file), "--tokens"]) == 0
    assert "32 identical, 0 differ" in capsys.readouterr().out
    name = next(iter(read_trajectories(file))).episode_id
    assert run(["replay", str(file), "--episode", name]) == 0
    assert capsys.readouterr().out.startswith("1 episodes")


def test_a_tampered_file_names_the_episode_and_the_turn(run_dir, tmp_path, capsys):
    first, *others = read_trajectories(run_dir / "trajectories" / "step_000001.jsonl.zst")
    turn = replace(first.turns[0], reward=5.0)
    file = tmp_path / "run" / "trajectories" / "step_000001.jsonl.zst"
    file.parent.mkdir(parents=True)
    shutil.copy(run_dir / "config.yaml", tmp_path / "run")
    write_trajectories(file, [replace(first, turns=(turn, *first.turns[1:])), *others])
    assert run(["replay", str(file)]) == 1
    out = capsys.readouterr().out
    assert f"{first.episode_id}: turn 0, reward: expected 5.0, got 0.0" in out
    assert "31 identical, 1 differ" in out


def test_what_cannot_be_replayed_is_bad_input(run_dir, tmp_path, capsys):
    file = run_dir / "trajectories" / "step_000001.jsonl.zst"
    assert run(["replay", str(file), "--episode", "nobody"]) == 2
    assert "holds no episode 'nobody'" in capsys.readouterr().err
    assert run(["replay", str(tmp_path / "absent.jsonl.zst"), "--env", "frozen_lake"]) == 2
    shutil.copy(file, tmp_path / "lone.jsonl.zst")
    assert run(["replay", str(tmp_path / "lone.jsonl.zst")]) == 2
    assert "name the environment with --env" in capsys.readouterr().err
    assert run(["replay", str(tmp_path / "lone.jsonl.zst"), "--env", "tests.light_switch:LightSwitch"]) == 0
    first = next(iter(read_trajectories(file)))
    old = {key: value for key, value in first.info.items() if key != "reset_seed"}
    write_trajectories(tmp_path / "old.jsonl.zst", [replace(first, info=old)])
    assert run(["replay", str(tmp_path / "old.jsonl.zst"), "--env", "tests.light_switch:LightSwitch"]) == 2
    assert "has no reset_seed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def team_run(switch_policy, tmp_path_factory):
    config = switch_config(switch_policy, tmp_path_factory.mktemp("team") / "run", steps=1)
    env = config.env.model_copy(update={"id": "tests.team_switch:TeamSwitch"})
    return train(config.model_copy(update={"env": env})).run_dir


def test_an_episode_of_several_agents_is_replayed_from_the_logs_of_all(team_run, capsys):
    assert run(["replay", str(team_run / "trajectories" / "step_000001.jsonl.zst")]) == 0
    assert capsys.readouterr().out == "32 episodes, 128 turns: 32 identical, 0 differ\n"


@pytest.mark.parametrize("field", ["action", "state_key"])
def test_a_tampered_turn_of_one_of_several_agents_is_found(team_run, tmp_path, capsys, field):
    first, *others = read_trajectories(team_run / "trajectories" / "step_000001.jsonl.zst")
    turn = first.turns[0]
    other = "red" if turn.info["action"] != "red" else "blue"
    changed = replace(turn, info={**turn.info, "action": other}) if field == "action" else replace(turn, state_key="x")
    file = tmp_path / "run" / "trajectories" / "step_000001.jsonl.zst"
    file.parent.mkdir(parents=True)
    shutil.copy(team_run / "config.yaml", tmp_path / "run")
    write_trajectories(file, [replace(first, turns=(changed, *first.turns[1:])), *others])
    assert run(["replay", str(file)]) == 1
    out = capsys.readouterr().out
    assert f"{first.episode_id}: turn {int(field == 'action')}, state_key" in out
    assert "31 identical, 1 differ" in out
