"""The rules of ALFWorld: what each command does and says, byte for byte as alfworld 0.4.2 with textworld 1.7.0.

Rules that look odd are those of the real engine:
- objects are examined only in the hand (the domain's other case names a type that does not exist);
- nothing is ever "off": using a lamp always turns it on;
- appliances work with their door closed, and so do lamps inside closed receptacles;
- `look` lists objects that were taken from a receptacle here and put into another one here, once for each.
"""

from __future__ import annotations

from agentgym_rft.envs.alfworld.compiled import CLEAN, COOL, HOT, SLICED, TOGGLED, with_article
from agentgym_rft.envs.alfworld.state import State

NOTHING_HAPPENS = "Nothing happens."
HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""
_SENTENCES = (  # the first whose flags are all set
    (CLEAN | HOT | SLICED, "This is a hot and clean sliced {}."),
    (CLEAN | COOL | SLICED, "This is a cool and clean sliced {}."),
    (CLEAN | SLICED, "This is a clean sliced {}."),
    (HOT | SLICED, "This is a hot sliced {}."),
    (COOL | SLICED, "This is a cool sliced {}."),
    (CLEAN | HOT, "This is a hot and clean {}."),
    (CLEAN | COOL, "This is a cool and clean {}."),
    (HOT, "This is a hot {}."),
    (CLEAN, "This is a clean {}."),
    (COOL, "This is a cold {}."),
)


def _can_change(state: State, verb: str, o: int, r: int) -> bool:
    game = state.game
    return state.held == o and o in game.can[verb] and state.is_here(r) and bool(game.appliances[verb] >> r & 1)


def _describe(state: State, r: int) -> str:
    name = state.game.receptacles[r]
    if not state.game.openable >> r & 1:
        return f"On the {name}, you see {state.listings[r]}."
    if state.opened >> r & 1:
        return f"The {name} is open. In it, you see {state.listings[r]}."
    return f"The {name} is closed."


def _look(state: State, _first: int, _second: int) -> str:
    game, bit = state.game, 1 << state.location
    facing = game.facing[state.location]
    if not facing:
        return "You are in the middle of a room. Looking quickly around you, you see nothing."
    beside = []
    for o in sorted(state.taken_from):
        if state.at[o] & bit:
            beside += [game.objects[o]] * (state.taken_from[o] & game.here_mask[state.location]).bit_count()
    return f"{facing} Next to it, you see {with_article(beside)}."


def _inventory(state: State, _first: int, _second: int) -> str:
    return (
        f"You are carrying: a {state.game.objects[state.held]}."
        if state.held >= 0
        else "You are not carrying anything."
    )


def _help(state: State, _first: int, _second: int) -> str:
    return HELP


def _go(state: State, r: int, _second: int) -> str:
    location = state.game.location_of[r]
    if location < 0 or location == state.location:
        return NOTHING_HAPPENS
    state.location = location
    state.changed()
    return f"You arrive at {state.game.receptacles[r]}. {_describe(state, r)}"


def _open(state: State, r: int, _second: int) -> str:
    if not (state.game.openable & ~state.opened) >> r & 1 or not state.is_here(r):
        return NOTHING_HAPPENS
    state.opened |= 1 << r
    state.changed()
    return f"You open the {state.game.receptacles[r]}. {_describe(state, r)}"


def _close(state: State, r: int, _second: int) -> str:
    if not (state.game.openable & state.opened) >> r & 1 or not state.is_here(r):
        return NOTHING_HAPPENS
    state.opened &= ~(1 << r)
    state.changed()
    return f"You close the {state.game.receptacles[r]}."


def _examine_receptacle(state: State, r: int, _second: int) -> str:
    return _describe(state, r) if state.is_here(r) else NOTHING_HAPPENS


def _examine_object(state: State, o: int, _second: int) -> str:
    if state.held != o:
        return NOTHING_HAPPENS
    game, flags, name = state.game, state.flags[o], state.game.objects[o]
    if o in game.inner:
        return game.inner[o]
    for wanted, sentence in _SENTENCES:
        if flags & wanted == wanted:
            return sentence.format(name)
    if flags & TOGGLED and o in game.toggleable:
        return f"This {name} is on."
    if flags & SLICED and o in game.sliceable:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def _use(state: State, o: int, _second: int) -> str:
    if o not in state.game.toggleable or not state.inside[o] & state.game.here_mask[state.location]:
        return NOTHING_HAPPENS
    state.change(o, state.flags[o] | TOGGLED)
    return f"You turn on the {state.game.objects[o]}."


def _take(state: State, o: int, r: int) -> str:
    game, bit = state.game, 1 << r
    if state.held >= 0 or not state.inside[o] & bit or o not in game.pickupable:
        return NOTHING_HAPPENS
    if not state.is_here(r) or not state.is_reachable(r):
        return NOTHING_HAPPENS
    state.held = o
    state.at[o] &= ~(1 << state.location)
    if game.crowded & bit:  # elsewhere `look` can never show it
        state.taken_from[o] = state.taken_from.get(o, 0) | bit
    state.place(o, state.inside[o] & ~bit)
    state.change(o, state.flags[o])
    return f"You pick up the {game.objects[o]} from the {game.receptacles[r]}."


def _move(state: State, o: int, r: int) -> str:
    game, bit = state.game, 1 << r
    if state.held != o or not state.is_here(r) or not state.is_reachable(r) or o not in game.accepts[r]:
        return NOTHING_HAPPENS
    state.held = -1
    state.at[o] |= 1 << state.location
    if state.taken_from.get(o, 0) & bit:
        state.taken_from[o] &= ~bit
    state.place(o, state.inside[o] | bit)
    state.change(o, state.flags[o])
    return f"You move the {game.objects[o]} to the {game.receptacles[r]}."


def _clean(state: State, o: int, r: int) -> str:
    if not _can_change(state, "clean", o, r):
        return NOTHING_HAPPENS
    state.change(o, state.flags[o] | CLEAN)
    return f"You clean the {state.game.objects[o]} using the {state.game.receptacles[r]}."


def _heat(state: State, o: int, r: int) -> str:
    if not _can_change(state, "heat", o, r):
        return NOTHING_HAPPENS
    state.change(o, state.flags[o] & ~COOL | HOT)
    return f"You heat the {state.game.objects[o]} using the {state.game.receptacles[r]}."


def _cool(state: State, o: int, r: int) -> str:
    if not _can_change(state, "cool", o, r):
        return NOTHING_HAPPENS
    state.change(o, state.flags[o] & ~HOT | COOL)
    return f"You cool the {state.game.objects[o]} using the {state.game.receptacles[r]}."


def _slice(state: State, o: int, knife: int) -> str:
    if state.held != knife or knife not in state.game.knives or o not in state.game.sliceable:
        return NOTHING_HAPPENS
    if not state.at[o] >> state.location & 1:
        return NOTHING_HAPPENS
    state.change(o, state.flags[o] | SLICED)
    return f"You sliced the {state.game.objects[o]} with the {state.game.objects[knife]}."


OBEY = (  # in the order of `compiled.VERBS`
    *(_look, _inventory, _help, _go, _open, _close),
    *(_examine_receptacle, _examine_object, _use, _take, _move),
    *(_clean, _heat, _cool, _slice),
)
