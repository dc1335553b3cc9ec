"""The oracle: exact from any state that play reaches."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.game import Game, Goal, TaskType
from agentgym_rft.envs.alfworld.generate import generate_game, generated_task_ids
from agentgym_rft.envs.alfworld.oracle import distance, plan
from agentgym_rft.errors import EnvError


def _wander(world: World, rng: random.Random, num_steps: int) -> Iterator[int]:
    """Random play that likes to change things; yields after each step."""
    for step in range(num_steps):
        admissible = world.admissible()
        lively = [c for c in admissible if c.split()[0] in ("take", "move", "open", "heat", "cool", "clean", "close")]
        world.step(rng.choice(lively if lively and rng.random() < 0.6 else admissible))
        yield step


def _sample(num_games: int) -> list[World]:
    return [World(compile_game(generate_game(task_id))) for task_id in generated_task_ids("train")[:num_games]]


def test_the_plan_from_any_reachable_state_wins_in_exactly_distance_steps() -> None:
    rng = random.Random(0)
    for world in _sample(120):
        for step in _wander(world, rng, 40):
            if step % 8:
                continue
            saved, left = world.snapshot(), distance(world)
            commands = plan(world)
            assert left == len(commands)
            for command in commands:
                assert not world.won
                world.step(command)
            assert world.won
            world.restore(saved)


def test_no_command_ever_saves_more_than_one_step() -> None:
    """With plans of that length at hand this makes `distance` the exact number of commands left."""
    rng = random.Random(1)
    for world in _sample(60):
        for step in _wander(world, rng, 24):
            if step % 8 != 7 or world.won:
                continue
            saved, left = world.snapshot(), distance(world)
            assert left is not None
            for command in world.admissible():
                world.step(command)
                after = distance(world)
                assert after is not None
                assert after >= left - 1, (world.game.task, command)
                world.restore(saved)


def test_a_won_game_is_at_distance_zero() -> None:
    task_id = generated_task_ids("valid_seen")[0]
    game = generate_game(task_id)
    world = World(compile_game(game))
    for command in game.walkthrough:
        world.step(command)
    assert distance(world) == 0
    assert plan(world) == []


def _two_rooms(goal: Goal, inside: tuple[tuple[str, str], ...]) -> Game:
    """A desk and a bed with books and pens on them."""
    objects = tuple(dict.fromkeys(o for o, _ in inside))
    receptacles = ("Bed_bar_1", "Desk_bar_1")
    kinds = ("Bed", "Desk")
    return Game(
        objects=objects,
        receptacles=receptacles,
        locations=("loc_bar_0", "loc_bar_1", "loc_bar_2"),
        facts={
            "receptacleType": tuple((r, f"{k}Type") for r, k in zip(receptacles, kinds, strict=True)),
            "objectType": tuple((o, f"{o.partition('_bar_')[0]}Type") for o in objects),
            "canContain": (("BedType", "BookType"), ("DeskType", "BookType"), ("DeskType", "PenType")),
            "pickupable": tuple((o,) for o in objects),
            "inReceptacle": inside,
            "receptacleAtLocation": (("Bed_bar_1", "loc_bar_1"), ("Desk_bar_1", "loc_bar_2")),
            "objectAtLocation": tuple((o, "loc_bar_1") for o in objects),
            "atLocation": (("agent1", "loc_bar_0"),),
        },
        goal=goal,
        task="put some book on desk.",
    )


def test_a_wrong_object_in_the_hand_is_put_where_it_is_allowed() -> None:
    game = _two_rooms(Goal(TaskType.SIMPLE, "Book", "Desk"), (("Book_bar_1", "Bed_bar_1"), ("Pen_bar_1", "Bed_bar_1")))
    world = World(compile_game(game))
    for command in ("go to bed 1", "take pen 1 from bed 1"):
        world.step(command)
    assert plan(world) == [
        "go to desk 1",
        "move pen 1 to desk 1",
        "go to bed 1",
        "take book 1 from bed 1",
        "go to desk 1",
        "move book 1 to desk 1",
    ]


def test_a_goal_without_its_object_has_no_distance_and_no_plan() -> None:
    game = _two_rooms(Goal(TaskType.TWO, "Book", "Desk"), (("Book_bar_1", "Bed_bar_1"), ("Pen_bar_1", "Desk_bar_1")))
    world = World(compile_game(game))
    assert distance(world) is None
    with pytest.raises(EnvError, match="put some book on desk"):
        plan(world)


def test_one_of_two_already_there_needs_only_the_other() -> None:
    inside = (("Book_bar_1", "Bed_bar_1"), ("Book_bar_2", "Desk_bar_1"), ("Pen_bar_1", "Desk_bar_1"))
    world = World(compile_game(_two_rooms(Goal(TaskType.TWO, "Book", "Desk"), inside)))
    assert plan(world) == ["go to bed 1", "take book 2 from bed 1", "go to desk 1", "move book 2 to desk 1"]
