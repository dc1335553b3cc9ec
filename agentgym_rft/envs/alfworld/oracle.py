"""A player with full knowledge: shortest plans and the number of commands left, from any state of the own engine."""

from __future__ import annotations

from agentgym_rft.envs.alfworld.compiled import SLICED, TOGGLED, CompiledGame
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.planning import VERBS, Lamp, Place, Plan, Thing, View, commands, cost, shortest
from agentgym_rft.errors import EnvError


def plan(world: World) -> list[str]:
    """Return the fewest commands that win from the world's state; empty if it is won.

    Raises:
        EnvError: no plan wins. The oracle does not slice, so this includes goals that still need slicing.
    """
    if world.won:
        return []
    view = view_of(world)
    best = shortest(view)
    if best is None:
        raise EnvError(f"No plan of the oracle wins '{world.game.task}' from here; restart the game.")
    return commands(best, view.here)


class Oracle:
    """Plays a shortest plan from the world's state, whatever was done before. Raises what `plan` raises."""

    def __init__(self, world: World) -> None:
        self._world = world

    def act(self, observation: str) -> str:
        """Return the first command of the plan, made anew for the state as it is."""
        return plan(self._world)[0]


def distance(world: World) -> int | None:
    """Return the length of `plan(world)`, None if there is no plan."""
    if world.won:
        return 0
    view = view_of(world)
    best: Plan | None = shortest(view)
    return None if best is None else cost(best, view.here)


def _places(world: World) -> tuple[Place, ...]:
    game = world.game
    return tuple(
        Place(index, name, location, not world.is_reachable(name))
        for index, (name, location) in enumerate(zip(game.receptacles, game.location_of, strict=True))
    )


def _listed(places: tuple[Place, ...], mask: int) -> tuple[Place, ...]:
    return tuple(place for place in places if mask >> place.index & 1 and place.location >= 0)


def _things(world: World, places: tuple[Place, ...]) -> tuple[Thing, ...]:
    game, win = world.game, world.game.win
    needed = win.flags & SLICED
    things: list[Thing] = []
    for number in win.objects:
        name = game.objects[number]
        flags = world.flags_of(name)
        if flags & needed != needed:
            continue
        is_ready = flags & win.flags == win.flags
        inside = tuple(game.receptacle_index[receptacle] for receptacle in world.receptacles_of(name))
        if name == world.holding:
            things.append(Thing(name, None, is_ready, inside))
        elif number in game.pickupable:
            for index in inside:
                if places[index].location >= 0:
                    others = tuple(other for other in inside if other != index)
                    things.append(Thing(name, places[index], is_ready, others))
    return tuple(things)


def view_of(world: World) -> View:
    """Return what a plan of the current agent depends on."""
    game: CompiledGame = world.game
    win, held = game.win, world.holding
    places = _places(world)
    facing = world.facing
    number = -1 if held is None else game.object_index[held]
    verb = VERBS.get(win.kind)
    return View(
        task_type=win.kind,
        here=game.location_of[game.receptacle_index[facing[0]]] if facing else -1,
        things=_things(world, places),
        held=held,
        spots=tuple(p for p in places if number in game.accepts[p.index] and p.location >= 0),
        targets=_listed(places, win.receptacle_mask),
        appliances=_listed(places, game.appliances[verb]) if verb else (),
        lamps=_lamps(world, places),
    )


def _lamps(world: World, places: tuple[Place, ...]) -> tuple[Lamp, ...]:
    game = world.game
    names = [game.objects[number] for number in game.win.lamps]
    return tuple(
        Lamp(name, places[game.receptacle_index[receptacle]], bool(world.flags_of(name) & TOGGLED))
        for name in names
        for receptacle in world.receptacles_of(name)
    )
