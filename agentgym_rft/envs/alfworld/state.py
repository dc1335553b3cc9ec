"""The state of a household game: all that changes while it is played."""

from __future__ import annotations

from agentgym_rft.envs.alfworld.compiled import TOGGLED, CompiledGame, with_article
from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.errors import EnvError


class State:
    """The state of one game. Objects, receptacles and locations are the numbers of the `CompiledGame`.

    `inside` and `at` are sets of receptacles and of locations for each object, because game files may name several: an
    object keeps the location that the file gives it until it is taken from a receptacle there. `contents` and
    `listings` say the same as `inside`, by receptacle, in numbers and in words.
    """

    __slots__ = (
        *("admissible", "at", "contents", "flags", "game", "held", "inside", "key", "listings", "location"),
        *("opened", "taken_from", "touched", "won"),
    )
    game: CompiledGame
    location: int
    held: int  # -1: nothing
    opened: int  # receptacles
    flags: list[int]
    inside: list[int]
    at: list[int]
    taken_from: dict[int, int]  # per object: receptacles in company of others that it was taken from and is not in
    contents: list[tuple[int, ...]]
    listings: list[str]
    touched: set[int]  # objects that may differ from the start
    won: bool
    admissible: list[str] | None  # kept until the next change, as is the key
    key: str | None

    def __init__(self, game: CompiledGame) -> None:
        self.game = game
        self.reset()

    def reset(self) -> None:
        """Back to the start of the game."""
        start = self.game.start
        self.location = start.location
        self.held = start.held
        self.opened = start.opened
        self.flags = list(start.flags)
        self.inside = list(start.inside)
        self.at = list(start.at)
        self.taken_from = {}
        self.contents = list(start.contents)
        self.listings = list(start.listings)
        self.touched = set()
        self.changed()

    def changed(self) -> None:
        """To be called after every change: what was worked out from the state no longer holds."""
        self.admissible = None
        self.key = None
        self.won = self._is_won()

    def change(self, o: int, flags: int) -> None:
        """Give object `o` these flags."""
        self.flags[o] = flags
        self.touched.add(o)
        self.changed()

    def place(self, o: int, inside: int) -> None:
        """Make `inside` the receptacles that object `o` is in. `changed` is still to be called."""
        moved = inside ^ self.inside[o]
        self.inside[o] = inside
        self.touched.add(o)
        while moved:
            r = (moved & -moved).bit_length() - 1
            moved &= moved - 1
            if inside >> r & 1:
                self.contents[r] = tuple(sorted((*self.contents[r], o)))
            else:
                self.contents[r] = tuple(other for other in self.contents[r] if other != o)
            self.listings[r] = with_article([self.game.objects[other] for other in self.contents[r]])

    def is_here(self, r: int) -> bool:
        return self.game.location_of[r] == self.location

    def is_reachable(self, r: int) -> bool:
        """Return True if receptacle `r` is open or cannot be closed."""
        return not self.game.openable >> r & 1 or bool(self.opened >> r & 1)

    def snapshot(self) -> bytes:
        """Return the state in a few dozen bytes: everything that differs from the start of the game."""
        start = self.game.start
        parts = [f"{self.game.digest[:16]} {self.location} {self.held} {self.opened}"]
        for o in sorted(self.touched):
            flags, inside, at, taken_from = self.flags[o], self.inside[o], self.at[o], self.taken_from.get(o, 0)
            if taken_from or flags != start.flags[o] or inside != start.inside[o] or at != start.at[o]:
                parts.append(f"{o} {flags} {inside} {at} {taken_from}")
        return ";".join(parts).encode()

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot of the same game. Raises `EnvError` if it is of another game or damaged."""
        head, *parts = snapshot.decode(errors="replace").split(";")
        try:
            digest, *numbers = head.split(" ")
            location, held, opened = map(int, numbers)
            rows = [[int(number) for number in part.split(" ")] for part in parts]
            fits = digest == self.game.digest[:16]
        except ValueError:
            fits = False
        if not fits or not all(len(row) == 5 and 0 <= row[0] < len(self.flags) for row in rows):
            raise EnvError("The snapshot is not one of this game; restore it in an environment with the same data.")
        self.reset()
        self.location, self.held, self.opened = location, held, opened
        for o, flags, inside, at, taken_from in rows:
            self.flags[o], self.at[o] = flags, at
            if taken_from:
                self.taken_from[o] = taken_from
            self.place(o, inside)
        self.changed()

    def _is_won(self) -> bool:
        win, inside, all_flags = self.game.win, self.inside, self.flags
        if win.kind is TaskType.LIGHT:
            if self.held not in win.objects:
                return False
            here = self.game.here_mask[self.location]
            return any(all_flags[o] & TOGGLED and inside[o] & here for o in win.lamps)
        flags, mask = win.flags, win.receptacle_mask
        there = [inside[o] & mask for o in win.objects if inside[o] & mask and all_flags[o] & flags == flags]
        if win.kind is not TaskType.TWO:
            return bool(there)
        return any(first & second for i, first in enumerate(there) for second in there[:i])
