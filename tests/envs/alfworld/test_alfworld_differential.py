"""The own engine and the real one, side by side on the same commands."""

import random
from collections import Counter

import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.game import Goal, TaskType
from agentgym_rft.envs.alfworld.pddl import game_document, parse_game
from agentgym_rft.envs.alfworld.tasks import GeneratedTasks
from tests.envs.alfworld.real_games import documents, needs_real_games
from tests.envs.alfworld.tiny_games import household, kitchen

pytest.importorskip("alfworld.agents")
pytestmark = pytest.mark.alfworld

VERBS = ("look", "inventory", "help", "go", "open", "close", "examine", "use", "take", "move", "clean", "heat", "cool")
STATE_SENTENCES = (
    *("a hot and clean sliced", "a cool and clean sliced", "a clean sliced", "a hot sliced", "a cool sliced"),
    *("a hot and clean apple", "a cool and clean apple", "a hot apple", "a clean apple", "a cold apple"),
    *("a sliced apple", "nothing special", "a normal plate"),
)


@pytest.fixture(scope="module")
def real_world():
    from agentgym_rft.envs.alfworld.textworld_backend import RealWorld

    world = RealWorld(game_document(kitchen()))

    def load(document):
        world.load(document)
        return world

    return load


def same_step(own, real, command):
    """Step both worlds, assert that they agree, and return what they say."""
    feedback = own.step(command)
    assert feedback == real.step(command), command
    assert own.admissible() == real.admissible(), command
    assert own.won == real.won, command
    return feedback


def start_both(document, real_world):
    own, real = World(compile_game(parse_game(document, "game"))), real_world(document)
    assert own.observation() == real.observation()
    assert own.admissible() == real.admissible()
    return own, real


def walk(own, real, rng, num_steps, used):
    """A random walk that prefers the verbs used least so far."""
    said = []
    for _ in range(num_steps):
        commands = own.admissible()
        if rng.random() < 0.7:
            rarest = min(used[command.split()[0]] for command in commands)
            commands = [command for command in commands if used[command.split()[0]] == rarest]
        command = (
            rng.choice(commands) if rng.random() < 0.97 else rng.choice(["go to", "open apple 1", " look ", "take"])
        )
        if command in own.admissible():
            used[command.split()[0]] += 1
        said.append(same_step(own, real, command))
    return said


def test_every_verb_and_state_sentence_agrees_on_a_scripted_tour(real_world):
    tour = """
        look|help|inventory|go to countertop 1|take apple 1 from countertop 1|examine apple 1|look
        heat apple 1 with microwave 1|examine apple 1|go to fridge 1|cool apple 1 with fridge 1|examine apple 1
        open fridge 1|close fridge 1|go to sinkbasin 1|clean apple 1 with bathtubbasin 1
        clean apple 1 with sinkbasin 1|examine apple 1|go to microwave 1|heat apple 1 with microwave 1
        examine apple 1|go to countertop 1|move apple 1 to countertop 1|take knife 1 from countertop 1
        slice apple 1 with knife 1|move knife 1 to countertop 1|look|take apple 1 from countertop 1|examine apple 1
        go to fridge 1|cool apple 1 with fridge 1|examine apple 1|go to shelf 1|move apple 1 to shelf 1|look
        take apple 1 from shelf 1|move apple 1 to shelf 2|look|examine shelf 2|open cabinet 1|use desklamp 1
        use desklamp 1|close cabinet 1|use desklamp 1|take plate 1 from shelf 2|examine plate 1
        move plate 1 to shelf 1|look|open cabinet 1|take plate 1 from shelf 1|move plate 1 to cabinet 1|look
        go to shelf 2|take plate 1 from cabinet 1|look|close cabinet 1|move plate 1 to cabinet 1
        move plate 1 to shelf 2|look|take mug 1 from shelf 2|examine mug 1|slice apple 1 with knife 1
        go to cabinet 1|go to nowhere 1|inventory
    """
    own, real = start_both(game_document(kitchen()), real_world)
    commands = "|".join(line.strip() for line in tour.strip().splitlines()).split("|")
    done = [command for command in commands if same_step(own, real, command) != "Nothing happens."]
    assert {command.split()[0] for command in done} == {*VERBS, "slice"}


def test_every_state_sentence_agrees(real_world):
    receptacles = ("CounterTop_bar_1", "Fridge_bar_1", "Microwave_bar_1", "Sink_bar_1_bar_SinkBasin")
    things = [*(f"Apple_bar_{n}" for n in range(4)), "Knife_bar_1", "Plate_bar_1"]
    game = household(
        Goal(TaskType.SIMPLE, "Knife", "Fridge"),
        dict.fromkeys(receptacles, "loc_bar_1"),
        {thing: ["CounterTop_bar_1"] for thing in things},
        {"isReceptacleObject": [("Plate_bar_1",)], "isCool": [("Apple_bar_3",)]},  # apple 1
    )
    own, real = start_both(game_document(game), real_world)
    same_step(own, real, "go to fridge 1")
    changes = {"heat": "microwave 1", "cool": "fridge 1", "clean": "sinkbasin 1"}
    plans = {
        "apple 1": ("examine", "heat", "clean", "cool"),
        "apple 2": ("slice", "clean", "heat", "cool"),
        "apple 3": ("slice", "heat", "cool"),
        "apple 4": ("examine", "clean"),
        "plate 1": ("examine", "heat"),
    }
    said = []
    for thing, verbs in plans.items():
        if verbs[0] == "slice":
            for command in (
                "take knife 1 from countertop 1",
                f"slice {thing} with knife 1",
                "move knife 1 to countertop 1",
            ):
                same_step(own, real, command)
        same_step(own, real, f"take {thing} from countertop 1")
        said.append(same_step(own, real, f"examine {thing}"))
        for verb in verbs[1:]:
            same_step(own, real, f"{verb} {thing} with {changes[verb]}")
            said.append(same_step(own, real, f"examine {thing}"))
        same_step(own, real, f"move {thing} to countertop 1")
    missing = [sentence for sentence in STATE_SENTENCES if not any(sentence in text for text in said)]
    assert missing == []


@pytest.mark.parametrize(
    "game",
    [
        kitchen(),
        kitchen(Goal(TaskType.LIGHT, "Knife", "DeskLamp")),
        kitchen(Goal(TaskType.TWO, "Mug", "Shelf")),
        kitchen(Goal(TaskType.TWO, "Apple", "Shelf")),
        kitchen(Goal(TaskType.HEAT, "Apple", "Shelf")),
        *(kitchen(Goal(t, "Apple", "Shelf", sliced=True)) for t in (TaskType.SIMPLE, TaskType.CLEAN)),
        household(
            Goal(TaskType.COOL, "Potato", "Sink"),
            {"Sink_bar_1": "loc_bar_1", "Fridge_bar_1": "loc_bar_1", "Microwave_bar_1": "loc_bar_2"},
            {"Potato_bar_1": ["Sink_bar_1"], "Fork_bar_1": ["Microwave_bar_1"]},
            clean_with=("SinkType", "SinkBasinType"),
        ),
    ],
    ids=lambda game: f"{game.goal.task_type.value}-{game.goal.object_type}-{game.goal.sliced}",
)
def test_random_walks_agree_on_hand_made_games(game, real_world):
    own, real = start_both(game_document(game), real_world)
    walk(own, real, random.Random(0), 30, Counter())


@pytest.mark.slow
def test_generated_games_of_all_types_are_won_in_both_and_walks_after_that_agree_and_use_every_verb(real_world):
    tasks, used, rng = GeneratedTasks(), Counter(), random.Random(1)
    by_type = {tasks.game(task_id).goal.task_type: task_id for task_id in tasks.task_ids("valid_unseen")[:40]}
    assert set(by_type) == set(TaskType)
    for task_id in by_type.values():
        own, real = start_both(tasks.document(task_id), real_world)
        for command in tasks.game(task_id).walkthrough:
            assert not own.won
            same_step(own, real, command)
            used[command.split()[0]] += 1
        assert own.won
        walk(own, real, rng, 8, used)
    assert set(VERBS) <= set(used)


@pytest.mark.slow
@needs_real_games
def test_random_walks_agree_on_real_games(real_world):
    used, rng = Counter(), random.Random(2)
    for _, document in list(documents("valid_seen"))[::70]:
        own, real = start_both(document, real_world)
        for command in document["walkthrough"][:-1]:
            same_step(own, real, command)
        walk(own, real, rng, 20, used)


def test_a_snapshot_of_the_real_engine_restores_by_replay(real_world):
    _, real = start_both(game_document(kitchen()), real_world)
    for command in ("go to shelf 2", "take plate 1 from shelf 2"):
        real.step(command)
    saved, key = real.snapshot(), real.state_key()
    real.step("move plate 1 to shelf 1")
    assert real.state_key() != key
    real.restore(saved)
    assert real.state_key() == key
    assert "move plate 1 to shelf 1" in real.admissible()
