"""The commands that can be obeyed in a state."""

from __future__ import annotations

from agentgym_rft.envs.alfworld.state import State


def list_admissible(state: State) -> list[str]:
    """Return one sorted list for each verb, joined in the order of the verbs."""
    game, location = state.game, state.location
    here = game.here[location]
    names, held = game.receptacles, state.held
    closable = [r for r in here if game.openable >> r & 1]
    commands = _with_held(state, "clean", here)
    commands += sorted([f"close {names[r]}" for r in closable if state.opened >> r & 1])
    commands += _with_held(state, "cool", here)
    if held < 0:
        commands += game.examine_commands[location]
    else:
        commands += sorted((f"examine {game.objects[held]}", *game.examine_commands[location]))
    commands += game.go_commands[location]
    commands += _with_held(state, "heat", here)
    commands += ("help", "inventory", "look")
    reachable = [r for r in here if state.is_reachable(r)]
    if held >= 0:
        item = game.objects[held]
        commands += sorted([f"move {item} to {names[r]}" for r in reachable if held in game.accepts[r]])
    commands += sorted([f"open {names[r]}" for r in closable if not state.opened >> r & 1])
    if held >= 0:
        commands += _slices(state)
    else:
        takes = [
            f"take {game.objects[o]} from {names[r]}"
            for r in reachable
            for o in state.contents[r]
            if o in game.pickupable
        ]
        takes.sort()
        commands += takes
    mask = game.here_mask[location]
    commands += sorted([f"use {game.objects[o]}" for o in game.toggleable if state.inside[o] & mask])
    return commands


def _with_held(state: State, verb: str, here: tuple[int, ...]) -> list[str]:
    game = state.game
    if state.held not in game.can[verb] or not game.appliances[verb] & game.here_mask[state.location]:
        return []
    item, mask = game.objects[state.held], game.appliances[verb]
    return sorted([f"{verb} {item} with {game.receptacles[r]}" for r in here if mask >> r & 1])


def _slices(state: State) -> list[str]:
    game = state.game
    if state.held not in game.knives:
        return []
    knife = game.objects[state.held]
    return sorted(
        [f"slice {game.objects[o]} with {knife}" for o in game.sliceable if state.at[o] >> state.location & 1]
    )
