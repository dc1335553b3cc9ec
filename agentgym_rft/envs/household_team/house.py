"""One household with several agents in it.

The engine knows one agent at a time; the state of the others is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.envs.alfworld.compiled import CompiledGame
from agentgym_rft.envs.alfworld.engine import Body, World

_OWN = ("look", "inventory", "help", "examine ", "go to ")  # commands that change nothing but the agent's location


class House:
    """A game and its agents, each with a location and a hand of its own; all begin at the start of the game.

    What a game puts into the hand at its start is in the first agent's. Objects in a hand are nowhere for the others.
    """

    def __init__(self, game: CompiledGame, agents: Sequence[str]) -> None:
        self.agents = tuple(agents)
        self.game = game
        self._world = World(game)
        self._inside = self.agents[0]
        self._bodies = dict.fromkeys(self.agents, Body(game.start.location))  # stale for the one that is inside
        self._admissible: dict[str, list[str]] = {}

    def enter(self, agent: str) -> World:
        """Return the house as the agent has it around itself, until another one enters."""
        if agent != self._inside:
            self._bodies[self._inside] = self._world.swap(self._bodies[agent])
            self._inside = agent
        return self._world

    def obey(self, agent: str, command: str) -> str:
        """Return obey a command of the agent and return the feedback."""
        feedback = self.enter(agent).step(command)
        if command.lstrip().startswith(_OWN):
            self._admissible.pop(agent, None)
        else:
            self._admissible.clear()
        return feedback

    def admissible(self, agent: str) -> list[str]:
        """Return the commands of the agent that can be obeyed now, in ALFWorld's order."""
        if agent not in self._admissible:
            self._admissible[agent] = self.enter(agent).admissible()
        return self._admissible[agent].copy()

    def saved(self) -> dict[str, Any]:
        """Return the state of house and agents, as JSON values: equal if and only if the states are."""
        world = self.enter(self.agents[0])
        return {"world": world.snapshot().decode(), "others": [list(self._bodies[name]) for name in self.agents[1:]]}

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Take over what `saved` gave. Raises a LookupError, TypeError, ValueError or EnvError if it is damaged."""
        bodies = [_body(self._world.game, *map(int, numbers)) for numbers in saved["others"]]
        self.enter(self.agents[0]).restore(saved["world"].encode())
        self._bodies.update(zip(self.agents[1:], bodies, strict=True))
        self._admissible.clear()


def _body(game: CompiledGame, location: int, held: int, inside: int, at: int) -> Body:
    """Return a body of the game. Raises `ValueError` for places and objects that the game does not have."""
    is_known = 0 <= location < len(game.here) and -1 <= held < len(game.objects)
    if not is_known or inside >> len(game.receptacles) or at >> len(game.here):
        raise ValueError("an agent is or holds what is not in this game")
    return Body(location, held, inside, at)
