"""The environment around the engines: contract, task sources, snapshots."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.alfworld.game import Goal, TaskType
from agentgym_rft.envs.alfworld.pddl import game_document
from agentgym_rft.envs.alfworld.tasks import GeneratedTasks, OfficialTasks, task_source
from agentgym_rft.errors import ConfigError, DataError, EnvError, UnsupportedGameError
from tests.envs.alfworld.tiny_games import kitchen

TRIALS = [f"pick_and_place_simple-Knife-None-Shelf-{n}/trial_{n}" for n in range(12)]


def write_game(root: Path, name: str, document: dict) -> Path:
    path = root / name / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    return path


def official(root: Path, trials=TRIALS) -> Path:
    """A folder in the official layout with small games that need a knife on a shelf."""
    document = game_document(kitchen(Goal(TaskType.SIMPLE, "Knife", "Shelf")))
    for trial in trials:
        write_game(root / "json_2.1.1" / "train", trial, document)
    return root


WIN = ("go to countertop 1", "take knife 1 from countertop 1", "go to shelf 1", "move knife 1 to shelf 1")


def test_an_episode_follows_the_contract(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)))
    task_id = f"train/{TRIALS[3]}"
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    assert observation.startswith("-= Welcome to TextWorld, ALFRED! =-")
    assert info["task_id"] == task_id
    assert info["task_type"] == "pick_and_place_simple"
    assert info["goal"] == "put some knife on shelf."
    assert (info["won"], info["score"], info["invalid_action"]) == (False, 0.0, False)
    keys = {info["state_key"]}
    for command in WIN[:-1]:
        assert command in info["admissible_actions"]
        observation, reward, terminated, truncated, info = env.step(command)
        assert (reward, terminated, truncated, info["won"]) == (0.0, False, False, False)
        keys.add(info["state_key"])
    assert len(keys) == 4
    observation, reward, terminated, truncated, info = env.step(WIN[-1])
    assert observation == "You move the knife 1 to the shelf 1."
    assert (reward, terminated, truncated, info["won"], info["score"]) == (1.0, True, False, True, 1.0)
    with pytest.raises(EnvError, match="reset"):
        env.step("look")


def test_an_episode_is_truncated_at_the_step_limit(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)), max_steps=3)
    env.reset(seed=0)
    ends = [env.step("look")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(EnvError, match="reset"):
        env.step("look")


def test_winning_with_the_last_step_is_a_win_and_no_truncation(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)), max_steps=len(WIN))
    env.reset(seed=0)
    assert [env.step(command)[1:4] for command in WIN][-1] == (1.0, True, False)


def test_invalid_actions_are_told_and_change_nothing(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)))
    _, before = env.reset(seed=0)
    observation, _, _, _, info = env.step("fly to the moon")
    assert observation == "Nothing happens."
    assert info["invalid_action"]
    assert info["state_key"] == before["state_key"]
    assert not env.step("look")[4]["invalid_action"]


def test_admissible_actions_can_be_left_out(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)), admissible=False)
    assert "admissible_actions" not in env.reset(seed=0)[1]
    assert "admissible_actions" not in env.step("look")[4]


def test_changing_a_returned_list_does_not_change_the_next_one(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)))
    _, info = env.reset(seed=0)
    wanted = list(info["admissible_actions"])
    info["admissible_actions"].clear()
    assert env.step("look")[4]["admissible_actions"] == wanted


def test_a_step_before_reset_or_after_close_and_an_action_that_is_no_text_are_refused(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)))
    with pytest.raises(EnvError, match="reset"):
        env.step("look")
    env.reset(seed=0)
    with pytest.raises(EnvError, match="int"):
        env.step(3)
    env.close()
    env.close()
    with pytest.raises(EnvError, match="reset"):
        env.step("look")


def test_the_same_seed_draws_the_same_tasks_whatever_other_environments_do():
    def drawn(env, other=None):
        ids = [env.reset(seed=7)[1]["task_id"]]
        for _ in range(5):
            if other is not None:
                other.reset()
            ids.append(env.reset()[1]["task_id"])
        return ids

    alone = drawn(ALFWorldEnv())
    assert drawn(ALFWorldEnv(), ALFWorldEnv()) == alone
    assert len(set(alone)) > 1


def test_task_ids_do_not_depend_on_the_order_in_which_files_were_made(tmp_path):
    one = OfficialTasks(official(tmp_path / "a") / "json_2.1.1")
    other = OfficialTasks(official(tmp_path / "b", TRIALS[::-1]) / "json_2.1.1")
    ids = one.task_ids("train")
    assert other.task_ids("train") == ids
    assert sorted(ids) == sorted(f"train/{trial}" for trial in TRIALS)
    assert list(ids) == sorted(ids, key=lambda task_id: hashlib.sha256(task_id.encode()).hexdigest())
    assert list(ids) != sorted(ids)


def test_the_folder_may_be_the_layout_itself_or_come_from_the_environment(tmp_path, monkeypatch):
    official(tmp_path)
    source = task_source(tmp_path)
    assert task_source(tmp_path / "json_2.1.1") == source
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    assert task_source(None) == source
    monkeypatch.setenv("ALFWORLD_DATA", "")
    assert task_source(None) == GeneratedTasks()


def test_games_that_alfworld_skips_are_skipped(tmp_path):
    document = game_document(kitchen())
    root = tmp_path / "json_2.1.1" / "train"
    official(tmp_path, TRIALS[:1])
    write_game(root, "pick_and_place_simple-Mug-None-Shelf-1/unsolvable", {**document, "solvable": False})
    unmarked = {key: value for key, value in document.items() if key != "solvable"}
    write_game(root, "pick_and_place_simple-Mug-None-Shelf-1/unmarked", unmarked)
    write_game(root, "pick_and_place_with_movable_recep-Mug-Plate-Shelf-1/movable", document)
    write_game(root, "pick_and_place_simple-AppleSliced-None-Shelf-1/sliced", document)
    padded = {"solvable": True, "pad": "x" * 9000, **unmarked, "more": "x" * 9000}
    write_game(root, "pick_and_place_simple-Mug-None-Shelf-1/first", padded)
    middle = {"pad": "x" * 9000, "solvable": True, **unmarked, "more": "x" * 9000}
    write_game(root, "pick_and_place_simple-Mug-None-Shelf-1/middle", middle)
    found = task_source(tmp_path).task_ids("train")
    wanted = [TRIALS[0], *(f"pick_and_place_simple-Mug-None-Shelf-1/{trial}" for trial in ("first", "middle"))]
    assert sorted(found) == sorted(f"train/{trial}" for trial in wanted)


def test_a_missing_folder_or_split_or_task_is_a_data_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*json_2\.1\.1"):
        ALFWorldEnv(data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"json_2\.1\.1"):
        ALFWorldEnv(data=str(tmp_path))
    env = ALFWorldEnv(data=str(official(tmp_path)))
    with pytest.raises(DataError, match="valid_seen"):
        env.task_ids("valid_seen")
    with pytest.raises(DataError, match="test"):
        env.task_ids("test")
    for task_id in ("train/nothing/here", "../train/a", "x", f"train/../{TRIALS[0]}", ""):
        with pytest.raises(DataError, match="There is no task"):
            env.reset(options={"task_id": task_id})


def test_a_corrupt_game_file_is_a_data_error_that_names_it(tmp_path):
    official(tmp_path, TRIALS[:1])
    path = write_game(tmp_path / "json_2.1.1" / "train", "look_at_obj_in_light-a-None-b-1/broken", {"solvable": True})
    env = ALFWorldEnv(data=str(tmp_path))
    for content in (path.read_bytes(), b'{"pddl_domain": "(def', b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="broken"):
            env.reset(options={"task_id": "train/look_at_obj_in_light-a-None-b-1/broken"})


def test_unknown_arguments_are_refused():
    with pytest.raises(ConfigError, match="max_steps is 0"):
        ALFWorldEnv(max_steps=0)
    with pytest.raises(ConfigError, match=r"'textwrld'.*'textworld'"):
        ALFWorldEnv(backend="textwrld")
    with pytest.raises(ConfigError, match="human"):
        ALFWorldEnv(render_mode="human")
    with pytest.raises(DataError, match="'tran'"):
        ALFWorldEnv(split="tran")
    with pytest.raises(EnvError, match="'task'"):
        ALFWorldEnv().reset(options={"task": "x"})
    with pytest.raises(EnvError, match="int"):
        ALFWorldEnv().reset(options={"task_id": 3})


def test_a_snapshot_continues_in_another_instance_bit_by_bit():
    env, other = ALFWorldEnv(max_steps=6), ALFWorldEnv(max_steps=6)
    observation, info = env.reset(seed=3)
    while True:
        action = info["admissible_actions"][-1]
        saved = env.snapshot()
        assert other.restore(saved) == (observation, info)
        step = env.step(action)
        assert other.step(action) == step
        observation, info = step[0], step[4]
        if step[2] or step[3]:
            break
    ended = env.snapshot()
    other.restore(ended)
    with pytest.raises(EnvError, match="reset"):
        other.step("look")
    assert [env.reset()[1]["task_id"] for _ in range(4)] == [other.reset()[1]["task_id"] for _ in range(4)]


def test_restore_gives_the_observation_and_info_of_that_point(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)), render_mode="ansi")
    env.reset(seed=0)
    observation, _, _, _, info = env.step("go to fridge 9")
    saved = env.snapshot()
    env.step("go to fridge 1")
    assert env.restore(saved) == (observation, info)
    assert env.render() == observation == "Nothing happens."


def test_damaged_or_foreign_snapshots_are_refused_and_no_episode_runs_then(tmp_path):
    env = ALFWorldEnv(data=str(official(tmp_path)))
    with pytest.raises(EnvError, match="reset"):
        env.snapshot()
    env.reset(seed=0)
    saved = json.loads(env.snapshot())
    for bad in (b"", b"{", b"[]", b"{}", b"\xff"):
        with pytest.raises(EnvError, match="snapshot"):
            env.restore(bad)
    env.step("look")
    with pytest.raises(EnvError, match="textworld"):
        env.restore(json.dumps({**saved, "options": {"backend": "textworld"}}).encode())
    with pytest.raises(EnvError, match="not one of this game"):
        env.restore(json.dumps({**saved, "state": {"world": "0 0 0 0"}}).encode())
    with pytest.raises(EnvError, match="reset"):
        env.step("look")


def test_games_of_unknown_rules_name_the_other_backend(tmp_path):
    document = game_document(kitchen())
    document["grammar"] = document["grammar"].replace("move {o} to {r}", "put {o} in/on {r}")
    write_game(tmp_path / "train", "pick_and_place_simple-Mug-None-Shelf-1/old", document)
    env = ALFWorldEnv(data=str(tmp_path))
    task_id = "train/pick_and_place_simple-Mug-None-Shelf-1/old"
    with pytest.raises(UnsupportedGameError, match='backend="textworld"'):
        env.reset(options={"task_id": task_id})
    with pytest.raises(UnsupportedGameError, match='backend="textworld"'):
        env.task_content(task_id)
    assert b"in/on" in ALFWorldEnv(data=str(tmp_path), backend="textworld").task_content(task_id)


def test_a_game_file_that_is_cut_off_is_refused_rather_than_left_out(tmp_path):
    write_game(tmp_path / "train", "pick_and_place_simple-Mug-None-Shelf-1/old", game_document(kitchen()))
    path = next(tmp_path.rglob("game.tw-pddl"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"game\.tw-pddl is cut off; copy the game file again"):
        ALFWorldEnv(data=str(tmp_path)).task_ids("train")


def test_the_real_engine_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "alfworld", None)
    monkeypatch.setitem(sys.modules, "alfworld.agents.environment.alfred_tw_env", None)
    env = ALFWorldEnv(data=str(official(tmp_path)), backend="textworld")
    with pytest.raises(ConfigError, match=r"agentgym-rft\[alfworld\]"):
        env.reset(seed=0)


@pytest.mark.alfworld
def test_both_backends_give_the_same_five_tuples(tmp_path):
    pytest.importorskip("alfworld.agents")
    data = str(official(tmp_path))
    own, real = ALFWorldEnv(data=data), ALFWorldEnv(data=data, backend="textworld")
    same = ("task_id", "won", "score", "invalid_action", "task_type", "goal", "admissible_actions")
    (observation, info), (real_observation, real_info) = own.reset(seed=5), real.reset(seed=5)
    assert observation == real_observation
    assert info.keys() == real_info.keys()
    for command in ("fly", *WIN):
        *step, info = own.step(command)
        *real_step, real_info = real.step(command)
        assert step == real_step
        assert {key: info[key] for key in same} == {key: real_info[key] for key in same}
    assert info["won"]
    real.reset(seed=5)
    real.step(WIN[0])
    saved = real.snapshot()
    after = real.step(WIN[1])
    real.restore(saved)
    assert real.step(WIN[1]) == after


@pytest.mark.alfworld
def test_games_of_unknown_rules_are_played_by_the_real_engine(tmp_path):
    pytest.importorskip("alfworld.agents")
    document = game_document(kitchen(Goal(TaskType.SIMPLE, "Knife", "Shelf")))
    document["grammar"] = document["grammar"].replace("move {o} to {r}", "put {o} in/on {r}")
    write_game(tmp_path / "train", "pick_and_place_simple-Knife-None-Shelf-1/old", document)
    env = ALFWorldEnv(data=str(tmp_path), backend="textworld")
    _, info = env.reset(seed=0)
    assert info["task_type"] == "other"
    assert info["goal"] == "put some knife on shelf."
    for command in (*WIN[:-1], "put knife 1 in/on shelf 1"):
        _, reward, terminated, _, _ = env.step(command)
    assert (reward, terminated) == (1.0, True)
