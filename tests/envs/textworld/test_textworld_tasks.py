"""Which TextWorld games there are. Needs no engine."""

import json

import pytest

from agentgym_rft.envs.textworld import games
from agentgym_rft.envs.textworld.env import TextWorldEnv
from agentgym_rft.envs.textworld.tasks import DEFAULT_GAMES, FIRST_TEST_SEED, Task, check_game, panel, read_task
from agentgym_rft.errors import ConfigError, DataError


def test_ids_name_what_defines_the_game():
    task = Task("coin_collector", 5, 17)
    assert task.id == "coin_collector-l5-s17-g1"
    assert read_task(task.id) == task


@pytest.mark.parametrize(
    "task_id",
    ["", "coin_collector-l5-s17", "coin_collector-l5-s017-g1", "coin-l5-s1-g1", "simple-l7-s1-g1", "simple-l1-s1-g2"],
)
def test_ids_of_no_game_are_refused(task_id):
    with pytest.raises(DataError, match="There is no task"):
        read_task(task_id)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("coin_collector", "is no game. Write a family and a level"),
        ("coin_colector-l5", "Did you mean 'coin_collector'"),
        ("treasure_hunter-l31", "has levels 1 to 30, not 31"),
        ("coin_collector-l200", "has 200 rooms, more than the 100"),
    ],
)
def test_wrong_games_are_refused_with_a_sentence(name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_game(name)


def test_a_panel_takes_the_games_in_turns():
    ids = panel(["simple-l1", "cooking-l3"], "train", 5)
    assert ids == ["simple-l1-s0-g1", "cooking-l3-s0-g1", "simple-l1-s1-g1", "cooking-l3-s1-g1", "simple-l1-s2-g1"]


def test_test_games_have_other_seeds_and_come_from_what_is_held_out():
    train, test = (panel(DEFAULT_GAMES, split, 200) for split in ("train", "test"))
    assert not {read_task(a).seed for a in train} & {read_task(b).seed for b in test}
    assert Task("simple", 1, 3).settings()["test"] is False
    assert Task("simple", 1, FIRST_TEST_SEED).settings()["test"] is True
    assert Task("cooking", 3, 3).settings()["split"] == "train"
    assert Task("cooking", 3, FIRST_TEST_SEED).settings()["split"] == "test"


def test_the_content_of_a_task_is_all_that_it_is_made_from():
    content = json.loads(Task("cooking", 6, 4).content("1.7.0"))
    assert content["settings"] == {
        "recipe": 2, "take": 2, "go": 6, "open": True, "cook": True, "cut": True,
        "drop": False, "recipe_seed": 0, "split": "train",
    }  # fmt: skip
    assert (content["seed"], content["textworld"], content["generator"]) == (4, "1.7.0", 1)


def test_a_missing_engine_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(games.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        TextWorldEnv()
    assert str(caught.value) == ('TextWorld is not installed; install it with: pip install "agentgym-rft[textworld]".')
