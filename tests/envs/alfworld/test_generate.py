"""Generated games: the same everywhere, fair, disjoint between splits, like the real ones, and winnable."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache
from statistics import mean

import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.game import Game, TaskType
from agentgym_rft.envs.alfworld.generate import TASK_MIX, find_task, generate_game, generated_task_ids
from agentgym_rft.envs.alfworld.oracle import plan
from agentgym_rft.envs.alfworld.pddl import game_document, parse_game
from agentgym_rft.envs.alfworld.scenes import scenes, scenes_of, tables
from agentgym_rft.envs.draws import Draws
from agentgym_rft.errors import DataError

SPLITS = tuple(TASK_MIX)
PINNED = {
    "train": "51c44ebab5630f758feaa10666c11682efffe446e63252aaa3826f7ef90d79a8",
    "valid_seen": "8664b089b104c579f0ed988d85d10881f50a9f9b62a3e5a9e5e183ff60995111",
    "valid_unseen": "f34040c9808ee505864006ae62cf6a411623e3c0fcc9e1e0b02f95f79e925e18",
}


@cache
def _games(split: str) -> dict[str, Game]:
    return {task_id: generate_game(task_id) for task_id in generated_task_ids(split)}


@cache
def _hashes(split: str) -> dict[str, str]:
    return {task_id: game.content_hash() for task_id, game in _games(split).items()}


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_game_of_a_split_is_the_pinned_one(split: str) -> None:
    assert generate_game(generated_task_ids(split)[0]).content_hash() == PINNED[split]


def test_another_process_in_another_order_makes_the_same_games() -> None:
    ids = generated_task_ids("valid_unseen")[:5] + generated_task_ids("train")[:5]
    code = (
        "import sys\n"
        "from agentgym_rft.envs.alfworld.generate import generate_game\n"
        "for task_id in sys.argv[1:]: print(generate_game(task_id).content_hash())\n"
    )
    out = subprocess.run([sys.executable, "-c", code, *reversed(ids)], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [generate_game(task_id).content_hash() for task_id in reversed(ids)]


def test_draws_are_the_raw_words_of_pcg64_as_fractions() -> None:
    draws = Draws("key")
    assert [draws.uniform() for _ in range(3)] == [0.7104027570599185, 0.7397752743099998, 0.2826015497810076]


@pytest.mark.parametrize("split", SPLITS)
def test_the_task_mix_is_that_of_the_real_train_split(split: str) -> None:
    mix = Counter(find_task(task_id).goal.task_type for task_id in generated_task_ids(split))
    assert dict(mix) == dict(TASK_MIX[split])
    real = dict(zip(TaskType, (790, 308, 650, 459, 533, 813), strict=True))
    assert all(abs(mix[kind] / mix.total() - real[kind] / 3553) < 0.005 for kind in TaskType)


def test_the_first_tasks_of_a_panel_are_a_fair_sample_of_types_and_rooms() -> None:
    first = [find_task(task_id) for task_id in generated_task_ids("train")[:500]]
    types = Counter(task.goal.task_type for task in first)
    assert all(abs(types[kind] / 500 - TASK_MIX["train"][kind] / 3553) < 0.06 for kind in TaskType)
    assert len({task.scene for task in first}) > 90


def test_splits_share_no_content_and_repeat_none() -> None:
    hashes = [value for split in SPLITS for value in _hashes(split).values()]
    assert len(hashes) == len(set(hashes)) == 3953


def test_no_two_games_read_the_same() -> None:
    """Ids aside: what lies where, by names, and the task."""
    texts = set()
    for split in SPLITS:
        for game in _games(split).values():
            kinds = Counter((o.partition("_bar_")[0], receptacle) for o, receptacle in game.facts["inReceptacle"])
            texts.add((game.task, frozenset(kinds.items())))
    assert len(texts) == 3953


def test_unseen_scenes_never_occur_in_train_and_list_other_receptacles() -> None:
    used = {split: {find_task(task_id).scene for task_id in generated_task_ids(split)} for split in SPLITS}
    assert used["train"] == {scene.number for scene in scenes_of("train")}
    assert len(used["train"]) == 100
    assert len(used["valid_unseen"]) == 12
    assert used["valid_seen"] <= used["train"]
    assert not used["valid_unseen"] & used["train"]
    lists = Counter(frozenset(Counter(r.kind for r in scene.receptacles).items()) for scene in scenes().values())
    assert max(lists.values()) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_every_walkthrough_wins_a_game_that_starts_unsolved(split: str) -> None:
    for task_id, game in _games(split).items():
        world = World(compile_game(game))
        assert not world.won, task_id
        for command in game.walkthrough[:-1]:
            world.step(command)
            assert not world.won, task_id
        world.step(game.walkthrough[-1])
        assert world.won, task_id


def test_a_walkthrough_is_the_plan_of_the_oracle() -> None:
    for game in list(_games("train").values())[:300]:
        assert tuple(plan(World(compile_game(game)))) == game.walkthrough


def test_a_generated_game_survives_the_official_file_format() -> None:
    for game in list(_games("valid_seen").values())[:60]:
        assert parse_game(game_document(game), "memory") == game


def test_games_are_about_as_large_as_the_real_ones() -> None:
    """Real train split: 6-54 receptacles, 23.5 on average; 32 objects in them; walkthroughs of 6.0 commands."""
    games = list(_games("train").values())
    sizes = [len(game.receptacles) for game in games]
    assert min(sizes) >= 6
    assert max(sizes) <= 39
    assert 15 < mean(sizes) < 25
    assert 28 < mean(len(game.objects) for game in games) < 37
    assert 5.5 < mean(len(game.walkthrough) for game in games) < 6.7
    crowded = [
        len(game.receptacles) - len({place for _, place in game.facts["receptacleAtLocation"]}) for game in games
    ]
    assert 0.5 < mean(crowded) < 4


def test_objects_lie_where_the_tables_say_and_goals_do_not_start_done() -> None:
    for task_id, game in _games("valid_unseen").items():
        task = find_task(task_id)
        kinds = dict(game.facts["receptacleType"])
        habits = tables().rooms[scenes()[task.scene].kind].objects
        for key, receptacle in game.facts["inReceptacle"]:
            kind, place = key.partition("_bar_")[0], kinds[receptacle].removesuffix("Type")
            assert place in habits[kind].places or kind in tables().can_contain[place]
            if kind == game.goal.object_type and game.goal.task_type in (TaskType.SIMPLE, TaskType.TWO):
                assert place != game.goal.target_type


@pytest.mark.parametrize(
    "task_id", ["", "train", "train/heat-mug-cabinet-12-99999", "nowhere/simple-cd-desk-301-0001", "../etc/passwd"]
)
def test_an_unknown_id_is_refused_with_an_example(task_id: str) -> None:
    with pytest.raises(DataError, match="Ids look like 'train/"):
        generate_game(task_id)


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'test'.*train, valid_seen, valid_unseen"):
        generated_task_ids("test")
