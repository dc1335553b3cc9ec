"""The rules of the own engine, on hand-made games."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_rft.envs.alfworld.compiled import CLEAN, COOL, HOT, SLICED, TOGGLED
from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.game import Goal, TaskType
from agentgym_rft.errors import EnvError, UnsupportedGameError
from tests.envs.alfworld.tiny_games import MUG_ON_SHELF, START, household, kitchen, play

APPLE_ON_SHELF = Goal(TaskType.SIMPLE, "Apple", "Shelf")


def test_the_intro_lists_receptacles_by_id_and_numbers_them_downwards():
    world = play(kitchen())
    assert world.observation() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a bathtubbasin 1, a cabinet 1, a countertop 1, a fridge 1, a microwave 1, a shelf 2, a shelf 1, and a "
        "sinkbasin 1.\n\nYour task is to: put some mug on shelf."
    )


def test_one_arrives_at_all_receptacles_of_a_location():
    world = play(kitchen(), "go to shelf 1")
    assert world.step("go to shelf 2") == "Nothing happens."
    assert world.step("go to cabinet 1") == "Nothing happens."
    assert world.step("examine shelf 1") == "On the shelf 1, you see a apple 1."
    assert world.step("look") == "You are facing the cabinet 1, shelf 2, and shelf 1. Next to it, you see nothing."
    assert world.facing == ("cabinet 1", "shelf 2", "shelf 1")
    assert not any(command.startswith(("go to shelf", "go to cabinet")) for command in world.admissible())


def test_look_lists_what_was_taken_here_and_put_into_another_receptacle_here():
    game = kitchen()
    world = play(game, "go to shelf 2", "take plate 1 from shelf 2")
    facing = "You are facing the cabinet 1, shelf 2, and shelf 1. Next to it, you see "
    assert world.step("look") == f"{facing}nothing."
    world.step("move plate 1 to shelf 1")
    assert world.step("look") == f"{facing}a plate 1."
    for command in ("take plate 1 from shelf 1", "open cabinet 1", "move plate 1 to cabinet 1"):
        world.step(command)
    assert world.step("look") == f"{facing}a plate 1, and a plate 1."
    world.step("take plate 1 from cabinet 1")
    world.step("move plate 1 to shelf 2")
    assert world.step("look") == f"{facing}a plate 1, and a plate 1."


def test_look_in_the_middle_of_the_room_never_repeats_the_list():
    assert play(kitchen()).step("look") == (
        "You are in the middle of a room. Looking quickly around you, you see nothing."
    )


def test_commands_are_exact_but_for_space_around_them():
    world = play(kitchen())
    for command in (
        "",
        "Look",
        "look around",
        "go to",
        "go to  fridge 1",
        "go to fridge 2",
        "open fridge",
        "take",
        "\x00",
    ):
        assert world.step(command) == "Nothing happens."
    assert world.step(" go to fridge 1\n") == "You arrive at fridge 1. The fridge 1 is closed."


def test_a_closed_receptacle_gives_and_takes_nothing():
    world = play(kitchen(), "go to fridge 1")
    assert world.step("take butterknife 1 from fridge 1") == "Nothing happens."
    assert world.step("close fridge 1") == "Nothing happens."
    assert world.step("open fridge 1") == "You open the fridge 1. The fridge 1 is open. In it, you see a butterknife 1."
    assert world.step("open fridge 1") == "Nothing happens."
    assert world.step("take butterknife 1 from fridge 1") == "You pick up the butterknife 1 from the fridge 1."
    assert world.holding == "butterknife 1"
    assert world.step("close fridge 1") == "You close the fridge 1."
    assert world.step("move butterknife 1 to fridge 1") == "Nothing happens."
    assert world.step("inventory") == "You are carrying: a butterknife 1."


def test_one_hand_holds_one_thing():
    world = play(kitchen(), "go to countertop 1", "take mug 2 from countertop 1")
    assert world.step("take knife 1 from countertop 1") == "Nothing happens."
    assert world.step("examine knife 1") == "Nothing happens."
    assert world.step("inventory") == "You are carrying: a mug 2."


def test_only_sink_basins_clean_and_bathtub_basins_do_not():
    world = play(kitchen(), "go to countertop 1", "take mug 2 from countertop 1", "go to bathtubbasin 1")
    assert world.step("clean mug 2 with bathtubbasin 1") == "Nothing happens."
    assert world.step("clean mug 2 with sinkbasin 1") == "You clean the mug 2 using the sinkbasin 1."
    assert world.flags_of("mug 2") == CLEAN


def test_a_bathtub_of_sink_basin_type_is_named_after_the_bathtub_and_cleans():
    game = household(
        MUG_ON_SHELF,
        {"Bathtub_bar_1_bar_SinkBasin": "loc_bar_1", "Shelf_bar_1": "loc_bar_2"},
        {"Mug_bar_1": ["Bathtub_bar_1_bar_SinkBasin"]},
    )
    play(game, "go to bathtubbasin 1", "take mug 1 from bathtubbasin 1", "clean mug 1 with bathtubbasin 1")


def test_a_sink_cleans_only_where_the_domain_says_so():
    receptacles = {"Sink_bar_1": "loc_bar_1", "Shelf_bar_1": "loc_bar_2"}
    commands = ("go to sink 1", "take mug 1 from sink 1")
    strict = household(MUG_ON_SHELF, receptacles, {"Mug_bar_1": ["Sink_bar_1"]})
    lenient = household(
        MUG_ON_SHELF, receptacles, {"Mug_bar_1": ["Sink_bar_1"]}, clean_with=("SinkType", "SinkBasinType")
    )
    assert "clean mug 1 with sink 1" not in play(strict, *commands).admissible()
    assert "clean mug 1 with sink 1" in play(lenient, *commands).admissible()
    assert strict.content_hash() != lenient.content_hash()


def test_heating_undoes_cooling_and_the_reverse_and_cleaning_stays():
    world = play(
        kitchen(),
        *(
            "go to countertop 1",
            "take apple 1 from countertop 1",
            "go to sinkbasin 1",
            "clean apple 1 with sinkbasin 1",
        ),
        *("go to fridge 1", "cool apple 1 with fridge 1"),
    )
    assert world.flags_of("apple 1") == CLEAN | COOL
    world.step("go to microwave 1")
    assert world.step("heat apple 1 with microwave 1") == "You heat the apple 1 using the microwave 1."
    assert world.flags_of("apple 1") == CLEAN | HOT
    world.step("go to fridge 1")
    assert world.step("cool apple 1 with fridge 1") == "You cool the apple 1 using the fridge 1."
    assert world.flags_of("apple 1") == CLEAN | COOL
    assert not world.is_reachable("fridge 1")


def test_a_lamp_in_a_closed_receptacle_is_used_and_never_goes_off():
    world = play(kitchen(), "go to cabinet 1")
    assert not world.is_reachable("cabinet 1")
    assert world.step("use desklamp 1") == "You turn on the desklamp 1."
    assert world.step("use desklamp 1") == "You turn on the desklamp 1."
    assert world.flags_of("desklamp 1") == TOGGLED
    assert world.step("use mug 1") == "Nothing happens."


def test_slicing_needs_a_knife_in_the_hand_and_the_object_at_the_location():
    world = play(kitchen(), "go to countertop 1")
    assert world.step("slice apple 1 with knife 1") == "Nothing happens."
    world.step("take knife 1 from countertop 1")
    assert world.step("slice mug 2 with knife 1") == "Nothing happens."
    assert "slice apple 1 with knife 1" in world.admissible()
    world.step("go to shelf 1")
    assert world.step("slice apple 1 with knife 1") == "You sliced the apple 1 with the knife 1."
    world.step("go to fridge 1")
    assert world.step("slice apple 1 with knife 1") == "Nothing happens."


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "There's nothing special about apple 1."),
        (("isClean", "isHot", "isSliced"), "This is a hot and clean sliced apple 1."),
        (("isClean", "isCool", "isSliced"), "This is a cool and clean sliced apple 1."),
        (("isClean", "isSliced"), "This is a clean sliced apple 1."),
        (("isHot", "isSliced"), "This is a hot sliced apple 1."),
        (("isCool", "isSliced"), "This is a cool sliced apple 1."),
        (("isClean", "isHot"), "This is a hot and clean apple 1."),
        (("isClean", "isCool"), "This is a cool and clean apple 1."),
        (("isHot",), "This is a hot apple 1."),
        (("isClean",), "This is a clean apple 1."),
        (("isCool",), "This is a cold apple 1."),
        (("isSliced",), "This is a sliced apple 1."),
        (("toggleable", "isToggled", "isSliced"), "This apple 1 is on."),
        (("toggleable",), "There's nothing special about apple 1."),
        (("isReceptacleObject", "isHot"), "This is a normal apple 1. In it, you see nothing."),
    ],
)
def test_examine_says_the_first_sentence_that_holds(flags, sentence):
    game = household(
        APPLE_ON_SHELF,
        {"Drawer_bar_1": "loc_bar_1", "Shelf_bar_1": "loc_bar_2"},
        {"Apple_bar_1": ["Drawer_bar_1"]},
        {flag: [("Apple_bar_1",)] for flag in flags},
    )
    world = play(game, "go to drawer 1", "open drawer 1", "take apple 1 from drawer 1")
    assert world.step("examine apple 1") == sentence


def test_examine_lists_what_is_inside_an_object_but_not_itself():
    world = play(kitchen(), "go to shelf 2", "take plate 1 from shelf 2")
    assert world.step("examine plate 1") == "This is a normal plate 1. In it, you see a spoon 1."


def test_a_thing_in_two_receptacles_is_taken_from_one_at_a_time():
    world = play(kitchen(), "go to countertop 1", "take apple 1 from countertop 1")
    assert world.receptacles_of("apple 1") == ("shelf 1",)
    assert world.contents_of("countertop 1") == ("knife 1", "mug 2")
    assert world.step("go to shelf 1") == "You arrive at shelf 1. On the shelf 1, you see a apple 1."
    assert world.step("take apple 1 from shelf 1") == "Nothing happens."


def test_simple_goal_wins_when_placed_and_not_before():
    world = play(
        kitchen(Goal(TaskType.SIMPLE, "Knife", "Shelf")), "go to countertop 1", "take knife 1 from countertop 1"
    )
    world.step("go to shelf 1")
    assert not world.won
    world.step("move knife 1 to shelf 1")
    assert world.won


@pytest.mark.parametrize(
    ("task_type", "change"),
    [
        (TaskType.CLEAN, ("go to sinkbasin 1", "clean knife 1 with sinkbasin 1")),
        (TaskType.HEAT, ("go to microwave 1", "heat knife 1 with microwave 1")),
        (TaskType.COOL, ("go to fridge 1", "cool knife 1 with fridge 1")),
    ],
)
def test_a_changed_object_wins_and_an_unchanged_one_does_not(task_type, change):
    game = kitchen(Goal(task_type, "Knife", "Shelf"))
    take, put = ("go to countertop 1", "take knife 1 from countertop 1"), ("go to shelf 1", "move knife 1 to shelf 1")
    assert not play(game, *take, *put).won
    change = change if "microwave" not in change[0] else change[1:]  # one stands there already
    assert play(game, *take, *change, *put).won


def test_light_goal_needs_the_lamp_on_and_the_object_held_at_the_lamp():
    game = kitchen(Goal(TaskType.LIGHT, "Knife", "DeskLamp"))
    take = ("go to countertop 1", "take knife 1 from countertop 1", "go to cabinet 1")
    world = play(game, *take)
    assert not world.won
    world.step("use desklamp 1")
    assert world.won
    world.step("go to fridge 1")
    assert not world.won


def test_two_objects_must_be_in_the_same_receptacle():
    game = kitchen(Goal(TaskType.TWO, "Mug", "Shelf"))
    world = play(game, "go to countertop 1", "take mug 2 from countertop 1", "go to shelf 1", "move mug 2 to shelf 1")
    assert not world.won
    world.step("take mug 2 from shelf 1")
    world.step("move mug 2 to shelf 2")
    assert world.won


def test_one_object_in_two_receptacles_is_not_two_objects():
    assert not play(kitchen(Goal(TaskType.TWO, "Apple", "Shelf"))).won


@pytest.mark.parametrize("task_type", [t for t in TaskType if t not in (TaskType.LIGHT, TaskType.TWO)])
def test_a_sliced_goal_needs_a_slice(task_type):
    game = household(
        Goal(task_type, "Apple", "Shelf", sliced=True),
        {
            "CounterTop_bar_1": "loc_bar_1",
            "Shelf_bar_1": "loc_bar_1",
            "Sink_bar_1_bar_SinkBasin": "loc_bar_1",
            "Fridge_bar_1": "loc_bar_1",
            "Microwave_bar_1": "loc_bar_1",
        },
        {"Apple_bar_1": ["CounterTop_bar_1"], "Knife_bar_1": ["CounterTop_bar_1"]},
    )
    change = {
        TaskType.CLEAN: ["clean apple 1 with sinkbasin 1"],
        TaskType.HEAT: ["heat apple 1 with microwave 1"],
        TaskType.COOL: ["cool apple 1 with fridge 1"],
    }.get(task_type, [])
    place = ["take apple 1 from countertop 1", *change, "move apple 1 to shelf 1"]
    cut = ["take knife 1 from countertop 1", "slice apple 1 with knife 1", "move knife 1 to countertop 1"]
    assert not play(game, "go to shelf 1", *place).won
    assert play(game, "go to shelf 1", *cut, *place).won


def test_two_sliced_objects():
    game = household(
        Goal(TaskType.TWO, "Apple", "Shelf", sliced=True),
        {"Shelf_bar_1": "loc_bar_1"},
        {f"Apple_bar_{n}": ["Shelf_bar_1"] for n in (1, 2)} | {"Knife_bar_1": ["Shelf_bar_1"]},
    )
    world = play(game, "go to shelf 1", "take knife 1 from shelf 1", "slice apple 1 with knife 1")
    assert not world.won
    world.step("slice apple 2 with knife 1")
    assert world.won


def test_a_game_can_start_with_a_held_thing_at_a_receptacle():
    game = household(
        MUG_ON_SHELF,
        {"Shelf_bar_1": START},
        {"Mug_bar_1": []},
        {"holds": [("agent1", "Mug_bar_1")], "holdsAny": [("agent1",)]},
    )
    world = play(game)
    assert "You are facing the shelf 1. Next to it, you see nothing." in world.observation()
    assert world.holding == "mug 1"
    world.step("move mug 1 to shelf 1")
    assert world.won


def test_starting_states_that_cannot_be_represented_are_refused_with_the_other_backend():
    receptacles, objects = {"Shelf_bar_1": "loc_bar_1"}, {"Mug_bar_1": ["Shelf_bar_1"]}
    for extra in (
        {"receptacleAtLocation": [("Shelf_bar_1", START)]},
        {"atLocation": [("agent1", "loc_bar_1")]},
        {"holds": [("agent1", "Mug_bar_1")]},
    ):
        with pytest.raises(UnsupportedGameError, match='backend="textworld"'):
            compile_game(household(MUG_ON_SHELF, receptacles, objects, extra))


def test_equal_states_have_equal_keys_whatever_the_way():
    game = kitchen()
    one = play(game, "go to fridge 1", "open fridge 1", "go to microwave 1", "open microwave 1")
    other = play(game, "go to microwave 1", "open microwave 1", "go to fridge 1", "open fridge 1", "look")
    assert one.state_key() != other.state_key()
    other.step("go to microwave 1")
    assert one.state_key() == other.state_key()
    there = play(game, "go to countertop 1")
    key = there.state_key()
    for command in ("take knife 1 from countertop 1", "examine knife 1"):
        there.step(command)
        assert there.state_key() != key
    there.step("move knife 1 to countertop 1")
    assert there.state_key() == key
    assert play(kitchen(APPLE_ON_SHELF), "go to countertop 1").state_key() != key


def test_states_that_look_will_tell_apart_have_different_keys():
    way = ("go to shelf 1", "take plate 1 from shelf 2", "go to fridge 1", "open fridge 1", "move plate 1 to fridge 1")
    stored = play(kitchen(), *way)
    moved = play(kitchen(), *way[:2], "move plate 1 to shelf 1", "take plate 1 from shelf 1", *way[2:])
    assert stored.state_key() != moved.state_key()


def _random_walk(world, rng, num_steps):
    for _ in range(num_steps):
        world.step(rng.choice(world.admissible()))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), before=st.integers(0, 40))
def test_a_restored_world_continues_like_the_original(seed, before):
    game = compile_game(kitchen())
    world = World(game)
    _random_walk(world, random.Random(seed), before)
    copy = World(game)
    _random_walk(copy, random.Random(seed + 1), 7)
    copy.restore(world.snapshot())
    assert copy.snapshot() == world.snapshot()
    rng = random.Random(seed + 2)
    for _ in range(30):
        assert (copy.admissible(), copy.won, copy.state_key()) == (world.admissible(), world.won, world.state_key())
        command = rng.choice(world.admissible())
        assert copy.step(command) == world.step(command)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_exactly_the_admissible_commands_do_something(seed):
    game = compile_game(kitchen())
    world = World(game)
    _random_walk(world, random.Random(seed), seed % 40)
    names = [*game.objects, *game.receptacles]
    commands = {"look", "inventory", "help"}
    commands |= {f"{verb} {a}" for verb in ("go to", "open", "close", "examine", "use") for a in names}
    for template in ("take {} from {}", "move {} to {}", "clean {} with {}", "heat {} with {}", "cool {} with {}"):
        commands |= {template.format(o, r) for o in game.objects for r in game.receptacles}
    commands |= {f"slice {a} with {b}" for a in game.objects for b in game.objects}
    before, done = world.snapshot(), []
    for command in sorted(commands):
        if world.step(command) != "Nothing happens.":
            done.append(command)
        world.restore(before)
    assert world.admissible() == done


@pytest.mark.parametrize("snapshot", [b"", b"junk", b"\xff\xfe", b"0123456789abcdef 0 0 0", b"a;b;c"])
def test_a_snapshot_of_something_else_is_refused(snapshot):
    with pytest.raises(EnvError, match="snapshot"):
        play(kitchen()).restore(snapshot)


def test_a_snapshot_of_another_game_is_refused():
    with pytest.raises(EnvError, match="not one of this game"):
        play(kitchen()).restore(play(kitchen(APPLE_ON_SHELF)).snapshot())


def test_sliced_flag_is_told():
    world = play(kitchen(), "go to countertop 1", "take knife 1 from countertop 1", "slice apple 1 with knife 1")
    assert world.flags_of("apple 1") == SLICED
