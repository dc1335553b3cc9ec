"""Hand-made households of a few things, for tests of single rules."""

from collections.abc import Mapping, Sequence

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.game import Game, Goal, TaskType

START = "loc_bar_0"
_OPENABLE = ("Cabinet", "Drawer", "Fridge", "Microwave")
_LAMPS = ("DeskLamp", "FloorLamp")
_SLICEABLE = ("Apple", "Potato")
MUG_ON_SHELF = Goal(TaskType.SIMPLE, "Mug", "Shelf")


def household(
    goal: Goal,
    receptacles: Mapping[str, str],
    objects: Mapping[str, Sequence[str]],
    extra: Mapping[str, Sequence[tuple[str, ...]]] | None = None,
    clean_with: tuple[str, ...] = ("SinkBasinType",),
) -> Game:
    """A game of receptacles (id -> location) and objects (id -> receptacles that it is in).

    Everything fits everywhere; all but lamps can be taken, cleaned, heated and cooled.
    """
    rtypes = {r: f"{r.rpartition('_bar_')[2] if 'Basin' in r else r.split('_bar_')[0]}Type" for r in receptacles}
    otypes = {o: f"{o.split('_bar_')[0]}Type" for o in objects}
    things = [o for o in objects if not o.startswith(_LAMPS)]
    one = {name: [(o,) for o in things] for name in ("pickupable", "cleanable", "heatable", "coolable")}
    facts = {
        "receptacleType": list(rtypes.items()),
        "objectType": list(otypes.items()),
        "canContain": [(r, o) for r in sorted(set(rtypes.values())) for o in sorted(set(otypes.values()))],
        **one,
        "openable": [(r,) for r in receptacles if r.startswith(_OPENABLE)],
        "sliceable": [(o,) for o in objects if o.startswith(_SLICEABLE)],
        "toggleable": [(o,) for o in objects if o.startswith(_LAMPS)],
        "atLocation": [("agent1", START)],
        "receptacleAtLocation": list(receptacles.items()),
        "inReceptacle": [(o, r) for o, inside in objects.items() for r in inside],
        "objectAtLocation": [(o, receptacles[r]) for o, inside in objects.items() for r in inside[:1]],
    }
    for name, rows in (extra or {}).items():
        facts[name] = [*facts.get(name, []), *rows]
    return Game(
        objects=tuple(objects),
        receptacles=tuple(receptacles),
        locations=tuple(dict.fromkeys([START, *receptacles.values()])),
        facts={name: tuple(rows) for name, rows in facts.items() if rows},
        goal=goal,
        task=f"put some {goal.object_type.lower()} on {goal.target_type.lower()}.",
        clean_with=clean_with,
    )


def play(game: Game, *commands: str) -> World:
    """A world after some commands, each of which must have done something."""
    world = World(compile_game(game))
    for command in commands:
        assert command in world.admissible(), f"{command!r} is not among {world.admissible()}"
        assert world.step(command) != "Nothing happens.", command
    return world


def kitchen(goal: Goal = MUG_ON_SHELF) -> Game:
    """Two shelves and a cabinet at one location, sink, bathtub, fridge and microwave elsewhere, and a bit of all."""
    return household(
        goal,
        {
            "Shelf_bar_1": "loc_bar_1",
            "Shelf_bar_2": "loc_bar_1",
            "Cabinet_bar_1": "loc_bar_1",
            "Sink_bar_1_bar_SinkBasin": "loc_bar_2",
            "Bathtub_bar_1_bar_BathtubBasin": "loc_bar_2",
            "Fridge_bar_1": "loc_bar_3",
            "Microwave_bar_1": "loc_bar_4",
            "CounterTop_bar_1": "loc_bar_4",
        },
        {
            "Mug_bar_1": ["CounterTop_bar_1"],
            "Mug_bar_2": ["Shelf_bar_1"],
            "Apple_bar_1": ["CounterTop_bar_1", "Shelf_bar_2"],
            "Knife_bar_1": ["CounterTop_bar_1"],
            "ButterKnife_bar_1": ["Fridge_bar_1"],
            "DeskLamp_bar_1": ["Cabinet_bar_1"],
            "Plate_bar_1": ["Shelf_bar_1"],
            "Spoon_bar_1": [],
        },
        {
            "isReceptacleObject": [("Plate_bar_1",), ("Mug_bar_2",)],
            "inReceptacleObject": [("Spoon_bar_1", "Plate_bar_1"), ("Plate_bar_1", "Plate_bar_1")],
            "objectAtLocation": [("Apple_bar_1", "loc_bar_1"), ("Spoon_bar_1", "loc_bar_3")],
        },
    )
