"""The searching expert: wins most games within 50 steps, from texts alone."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.expert import SearchExpert, read_task
from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.generate import generate_game, generated_task_ids
from agentgym_rft.envs.alfworld.pddl import parse_game
from agentgym_rft.errors import DataError

REAL = Path(__file__).parents[4] / "shared" / "data" / "alfworld_real"
ROOM = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a cabinet 1, a desk 1, a fridge 1, a sidetable 1, and a sinkbasin 1.\n\n"
    "Your task is to: put a clean mug in fridge."
)


def _play(world: World, expert: SearchExpert, max_steps: int = 50) -> list[tuple[str, str]]:
    """(command, what it led to) until the game is won or the steps are used up."""
    observation, log = world.observation(), []
    while len(log) < max_steps and not world.won:
        command = expert.act(observation)
        observation = world.step(command)
        log.append((command, observation))
    return log


def _success(worlds: list[World], noise: float = 0.0) -> tuple[float, float]:
    """Share of games won and mean number of steps, losses counted as 50."""
    lengths, wins = [], 0
    for seed, world in enumerate(worlds):
        expert = SearchExpert(world.observation(), np.random.default_rng(seed), noise)
        lengths.append(len(_play(world, expert)))
        wins += world.won
    return wins / len(worlds), float(np.mean(lengths))


def _generated(split: str, limit: int) -> list[World]:
    return [World(compile_game(generate_game(task_id))) for task_id in generated_task_ids(split)[:limit]]


def _real() -> list[World]:
    common = json.loads((REAL / "common.json").read_text())
    worlds = []
    with lzma.open(REAL / "valid_seen.jsonl.xz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            grammar = common["grammar"].replace("@@TASK@@", row["task"])
            document = {"pddl_domain": common["pddl_domain"], "grammar": grammar, "pddl_problem": row["pddl_problem"]}
            worlds.append(World(compile_game(parse_game(document, row["path"]))))
    return worlds


@pytest.mark.parametrize(("split", "limit"), [("train", 600), ("valid_seen", 200), ("valid_unseen", 200)])
def test_it_wins_generated_games(split: str, limit: int) -> None:
    success, steps = _success(_generated(split, limit))
    assert success >= 0.97
    assert steps < 17


def test_it_wins_generated_games_in_spite_of_its_own_noise() -> None:
    success, steps = _success(_generated("valid_unseen", 200), noise=0.1)
    assert success >= 0.97
    assert steps < 17


@pytest.mark.skipif(not REAL.is_dir(), reason="the real games are not here")
def test_it_wins_the_real_games() -> None:
    worlds = _real()
    success, steps = _success(worlds)
    assert len(worlds) == 140
    assert success >= 0.97
    assert steps < 17


def test_it_reads_a_hand_written_dialogue() -> None:
    """Listing order with cabinets last; a closed fridge; the sink; the remembered mug."""
    dialogue = [
        ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a mugbox 1, and a pen 2."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing."),
        ("go to sidetable 1", "Nothing happens."),
        ("examine sidetable 1", "On the sidetable 1, you see a mug 2, and a mug 1."),
        ("take mug 2 from sidetable 1", "You pick up the mug 2 from the sidetable 1."),
        ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."),
        ("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is open. In it, you see nothing."),
        ("move mug 2 to fridge 1", "You move the mug 2 to the fridge 1."),
    ]
    expert = SearchExpert(ROOM)
    observation = ROOM
    for command, feedback in dialogue:
        assert expert.act(observation) == command
        observation = feedback


def test_plain_listing_order_can_be_asked_for() -> None:
    assert SearchExpert(ROOM, late_kinds=()).act(ROOM) == "go to cabinet 1"


def test_the_texts_alone_decide_its_commands() -> None:
    world = _generated("train", 1)[0]
    start = world.observation()
    log = _play(world, SearchExpert(start, np.random.default_rng(3), 0.2))
    reader = SearchExpert(start, np.random.default_rng(3), 0.2)
    feedback = [start, *(text for _, text in log)]
    assert [reader.act(text) for text in feedback[: len(log)]] == [command for command, _ in log]


def test_noise_changes_its_play_and_the_same_seed_repeats_it() -> None:
    worlds = _generated("train", 3)
    first = [_play(w, SearchExpert(w.observation(), np.random.default_rng(5), 0.3)) for w in worlds]
    for world in worlds:
        world.reset()
    again = [_play(w, SearchExpert(w.observation(), np.random.default_rng(5), 0.3)) for w in worlds]
    for world in worlds:
        world.reset()
    plain = [_play(w, SearchExpert(w.observation())) for w in worlds]
    assert first == again
    assert first != plain


def test_it_recovers_from_holding_the_wrong_object() -> None:
    expert = SearchExpert(ROOM)
    expert.act(ROOM)
    expert.memory.read("take pen 2 from desk 1", "You pick up the pen 2 from the desk 1.")
    assert expert.act("You arrive at desk 1. On the desk 1, you see nothing.") == "move pen 2 to desk 1"
    assert expert.act("Nothing happens.").startswith("go to ")


@pytest.mark.parametrize(
    ("sentence", "meaning"),
    [
        ("put a mug in desk.", (TaskType.SIMPLE, "mug", "desk")),
        ("put some book on sofa.", (TaskType.SIMPLE, "book", "sofa")),
        ("put a hot egg in fridge.", (TaskType.HEAT, "egg", "fridge")),
        ("heat some egg and put it in fridge.", (TaskType.HEAT, "egg", "fridge")),
        ("put a cool pan in stoveburner.", (TaskType.COOL, "pan", "stoveburner")),
        ("cool some pan and put it in stoveburner.", (TaskType.COOL, "pan", "stoveburner")),
        ("put a clean fork in drawer.", (TaskType.CLEAN, "fork", "drawer")),
        ("clean some fork and put it in drawer.", (TaskType.CLEAN, "fork", "drawer")),
        ("put two cd in safe.", (TaskType.TWO, "cd", "safe")),
        ("find two cd and put them in safe.", (TaskType.TWO, "cd", "safe")),
        ("look at pen under the desklamp.", (TaskType.LIGHT, "pen", "desklamp")),
        ("examine the pen with the desklamp.", (TaskType.LIGHT, "pen", "desklamp")),
    ],
)
def test_it_reads_all_sentences_of_the_six_types(sentence: str, meaning: tuple[TaskType, str, str]) -> None:
    assert read_task(f"You are in a room.\n\nYour task is to: {sentence}") == meaning


def test_an_observation_without_a_task_is_refused() -> None:
    with pytest.raises(DataError, match="Expected a line such as"):
        SearchExpert("You arrive at desk 1.")


def test_noise_without_an_rng_is_refused() -> None:
    with pytest.raises(ValueError, match="rng"):
        SearchExpert(ROOM, noise=0.1)
