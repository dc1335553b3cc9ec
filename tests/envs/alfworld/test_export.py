"""Exported games: read back unchanged by our loader, found by alfworld's, won in the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.export import export_games
from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.generate import find_task, generate_game, generated_task_ids
from agentgym_rft.envs.alfworld.pddl import game_document
from agentgym_rft.envs.alfworld.tasks import task_source
from agentgym_rft.envs.alfworld.textworld_backend import RealWorld
from agentgym_rft.errors import DataError


def test_exported_games_come_back_unchanged(tmp_path: Path) -> None:
    folders = export_games(tmp_path, "valid_seen", 40)
    source = task_source(tmp_path)
    found = {source.game(task_id).content_hash() for task_id in source.task_ids("valid_seen")}
    made = [generate_game(task_id) for task_id in generated_task_ids("valid_seen")[:40]]
    assert len(folders) == 40
    assert found == {game.content_hash() for game in made}
    assert {source.game(t).walkthrough for t in source.task_ids("valid_seen")} == {game.walkthrough for game in made}


def test_an_exported_folder_says_what_its_game_is(tmp_path: Path) -> None:
    for folder, task_id in zip(export_games(tmp_path, "train", 30), generated_task_ids("train"), strict=False):
        task = find_task(task_id)
        goal = task.goal
        kind, object_type, moved, target, scene = folder.parent.name.split("-")
        assert (kind, object_type, moved, target) == (goal.task_type, goal.object_type, "None", goal.target_type)
        data = json.loads((folder / "traj_data.json").read_text())
        assert data["task_type"] == goal.task_type
        assert data["pddl_params"]["object_target"] == goal.object_type
        key = "toggle_target" if goal.task_type is TaskType.LIGHT else "parent_target"
        assert data["pddl_params"][key] == goal.target_type
        assert data["scene"]["scene_num"] == int(scene) == task.scene


def test_a_folder_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="file"):
        export_games(blocked, "train", 1)


def test_a_negative_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="-1"):
        export_games(tmp_path, "train", -1)


@pytest.mark.alfworld
def test_alfworlds_own_loader_lists_every_exported_game(tmp_path: Path) -> None:
    environment = pytest.importorskip("alfworld.agents.environment.alfred_tw_env")
    export_games(tmp_path, "train", 30)
    config = {
        "env": {"task_types": [1, 2, 3, 4, 5, 6], "goal_desc_human_anns_prob": 0},
        "dataset": {"data_path": str(tmp_path / "json_2.1.1" / "train"), "num_train_games": -1},
    }
    loader = environment.AlfredTWEnv.__new__(environment.AlfredTWEnv)
    loader.config, loader.train_eval = config, "train"
    loader.collect_game_files()
    assert len(loader.game_files) == 30


@pytest.mark.alfworld
@pytest.mark.slow
def test_two_games_of_each_type_are_won_in_the_real_engine() -> None:
    pytest.importorskip("alfworld.agents")
    chosen: dict[TaskType, list[str]] = {}
    for task_id in generated_task_ids("valid_unseen"):
        chosen.setdefault(find_task(task_id).goal.task_type, []).append(task_id)
    real: RealWorld | None = None
    for task_ids in chosen.values():
        for task_id in task_ids[:2]:
            game = generate_game(task_id)
            own, document = World(compile_game(game)), game_document(game)
            if real is None:
                real = RealWorld(document)
            else:
                real.load(document)
            assert real.observation() == own.observation()
            for command in game.walkthrough:
                assert real.step(command) == own.step(command)
            assert real.won, task_id
