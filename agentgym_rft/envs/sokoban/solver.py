"""A* over pushes: shortest solutions in moves.

A node is the player's cell right after a push and the boxes; walking between pushes is a flood fill. The lower bound is
the cheapest assignment of boxes to targets, each at the fewest pushes with the other boxes away. Every push is one
move, and a push lowers the bound by at most one, so the bound is consistent and the first solution taken from the queue
is shortest.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from agentgym_rft.envs.sokoban.room import DIRECTIONS, Position, Room, bits, move, shift

MAX_NODES = 20_000  # a search gives up after so many; far more than 3 boxes in 8x8 need


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves from a position to the solved room; `num_moves` is the least possible."""

    moves: tuple[str, ...]

    @property
    def num_moves(self) -> int:
        return len(self.moves)


def solve(room: Room, start: Position, max_nodes: int = MAX_NODES) -> Plan | None:
    """Return a shortest plan. None if there is none, or none was found within `max_nodes` expanded nodes."""
    live = live_cells(room)
    lower_bound = _LowerBound(room)
    bound = lower_bound(start.boxes)
    if bound is None:
        return None
    costs: dict[Position, int] = {start: 0}
    parents: dict[Position, tuple[Position, int, int]] = {}  # node: previous node, cell pushed from, direction
    queue: list[tuple[int, int, Position]] = [(bound, 0, start)]
    closed: set[Position] = set()
    while queue and len(closed) < max_nodes:
        _, _, node = heapq.heappop(queue)
        if node in closed:
            continue
        if node.boxes == room.targets:
            return Plan(_moves(room, start, node, parents))
        closed.add(node)
        for walked, origin, direction, after in _pushes(room, node, live):
            cost = costs[node] + walked + 1
            if cost >= costs.get(after, cost + 1):
                continue
            bound = lower_bound(after.boxes)
            if bound is not None:
                costs[after] = cost
                parents[after] = (node, origin, direction)
                heapq.heappush(queue, (cost + bound, -cost, after))
    return None


@functools.lru_cache(maxsize=256)
def push_distances(room: Room) -> tuple[dict[int, int], ...]:
    """Return for each target the fewest pushes that bring a lone box there, by the cell of the box (a mask)."""
    return tuple(_distances_to(room, target) for target in bits(room.targets))


def _distances_to(room: Room, target: int) -> dict[int, int]:
    distances: dict[int, int] = {}
    layer, seen, number = target, target, 0
    while layer:
        distances.update(dict.fromkeys(bits(layer), number))
        reached = 0
        for step in room.steps:
            # A box is pulled back by a step if the player has room behind it.
            reached |= shift(layer, -step) & room.floor & shift(room.floor, step)
        layer = reached & ~seen
        seen |= layer
        number += 1
    return distances


def live_cells(room: Room) -> int:
    """Return the cells from which a lone box can be pushed to a target. On any other cell a box is lost."""
    return functools.reduce(lambda mask, distances: mask | sum(distances), push_distances(room), 0)


class _LowerBound:
    """Pushes that are needed at least, by boxes; None if no assignment of boxes to targets is possible."""

    def __init__(self, room: Room) -> None:
        self._distances = push_distances(room)
        self._known: dict[int, int | None] = {}

    def __call__(self, boxes: int) -> int | None:
        if boxes not in self._known:
            self._known[boxes] = self._cheapest(boxes)
        return self._known[boxes]

    def _cheapest(self, boxes: int) -> int | None:
        costs = {0: 0}  # by the set of targets taken, for the boxes so far
        for box in bits(boxes):
            extended: dict[int, int] = {}
            for index, distances in enumerate(self._distances):
                distance = distances.get(box)
                if distance is None:
                    continue
                for taken, cost in costs.items():
                    if not taken >> index & 1:
                        with_index, total = taken | 1 << index, cost + distance
                        extended[with_index] = min(total, extended.get(with_index, total))
            costs = extended
        return min(costs.values(), default=None)


def _pushes(room: Room, node: Position, live: int) -> Iterator[tuple[int, int, int, Position]]:
    """Yield the pushes in reach that are not plainly lost: steps walked, cell pushed from, direction, node."""
    boxes, width = node.boxes, room.width
    free = room.floor & ~boxes
    # For each direction, the cells from which a box is pushed to a free, live cell.
    origins = [shift(boxes, -step) & shift(free & live, -2 * step) & free for step in room.steps]
    any_origin = origins[0] | origins[1] | origins[2] | origins[3]
    frontier = seen = node.player
    walked = 0
    while frontier:
        if frontier & any_origin:
            for direction, step in enumerate(room.steps):
                for origin in bits(frontier & origins[direction]):
                    player = shift(origin, step)
                    box = shift(player, step)
                    after = Position(player, boxes ^ player ^ box)
                    if not _is_frozen_square(room, after.boxes, box):
                        yield walked, origin, direction, after
        reached = frontier >> width | frontier << width | frontier >> 1 | frontier << 1
        frontier = reached & free & ~seen
        seen |= frontier
        walked += 1


def _is_frozen_square(room: Room, boxes: int, box: int) -> bool:
    """Return True if the box is in a 2x2 square of walls and boxes, one of which is off target: none can move again."""
    for down in (-room.width, room.width):
        for across in (-1, 1):
            square = box | shift(box, down) | shift(box, across) | shift(box, down + across)
            if not square & room.floor & ~boxes and square & boxes & ~room.targets:
                return True
    return False


def _moves(
    room: Room, start: Position, end: Position, parents: dict[Position, tuple[Position, int, int]]
) -> tuple[str, ...]:
    """Return the moves of the pushes that lead to `end`, with the walks between them."""
    parts: list[list[str]] = []
    node = end
    while node != start:
        previous, origin, direction = parents[node]
        parts.append([*_walk(room, previous, origin), DIRECTIONS[direction]])
        node = previous
    return tuple(word for part in reversed(parts) for word in part)


def _walk(room: Room, position: Position, goal: int) -> list[str]:
    """Return a shortest walk of the player to a cell that it can reach without pushing."""
    layers = [position.player]
    free = room.floor & ~position.boxes
    while not layers[-1] & goal:
        reached = 0
        for step in room.steps:
            reached |= shift(layers[-1], step)
        layers.append(reached & free)
    words: list[str] = []
    cell = goal
    for layer in reversed(layers[:-1]):
        direction = next(index for index, step in enumerate(room.steps) if shift(cell, -step) & layer)
        words.append(DIRECTIONS[direction])
        cell = shift(cell, -room.steps[direction])
    return words[::-1]


def possible_moves(room: Room, position: Position) -> list[str]:
    """Return the directions that change the position."""
    named = zip(DIRECTIONS, room.steps, strict=True)
    return [word for word, step in named if move(room, position, step) is not None]
