"""Collects finished conversations in groups, and writes a group when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agentgym_rft.core import Group, Trajectory
from agentgym_rft.errors import AgentGymError

_log = logging.getLogger(__name__)


class GroupSink(Protocol):
    """Takes finished groups and stores them for a trainer."""

    def write(self, group: Group) -> None:
        """Keep a group; it is safe when this returns. Raises an `AgentGymError` or OSError where it cannot be."""
        ...

    def num_trained(self) -> int | None:
        """Return groups that a trainer has used; None if that cannot be told."""
        ...

    def close(self) -> None:
        """No more groups will come."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """The group of a finished conversation: its id, its size so far, and whether it was written."""

    group_id: str
    num_members: int
    is_written: bool


@dataclass(slots=True)
class _Open:
    id: str
    task_id: str
    touched: float
    members: list[Trajectory] = field(default_factory=list)

    def group(self, *more: Trajectory) -> Group:
        return Group(self.id, self.task_id, (*self.members, *more))


class Groups:
    """Collects trajectories by a key and writes a group once it has its size.

    The next trajectory of the key then begins another group: ids are `name/number/key`, each used once.

    Args:
        sink: gets the groups.
        size: of a complete group.
        max_open: most incomplete groups; if there are more, the one that waited longest is written as it is.
        name: what the ids of all groups begin with.
        clock: seconds.
    """

    def __init__(self, sink: GroupSink, size: int, max_open: int, name: str, clock: Callable[[], float]) -> None:
        self._sink = sink
        self._size = size
        self._max_open = max_open
        self._name = name
        self._clock = clock
        self._open: dict[str, _Open] = {}  # by key, the one that waited longest first
        self._num_begun = 0
        self.num_written = 0
        self.num_incomplete = 0  # of those written
        self.num_stored = 0  # trajectories in them
        self.num_lost = 0  # trajectories whose group could not be written at the end

    @property
    def num_open(self) -> int:
        return len(self._open)

    @property
    def num_waiting(self) -> int:
        """Trajectories in incomplete groups."""
        return sum(len(group.members) for group in self._open.values())

    def task_of(self, key: str) -> str | None:
        """Return the task of the open group of a key."""
        return self._open[key].task_id if key in self._open else None

    def add(self, key: str | None, task_id: str, make: Callable[[str], Trajectory]) -> Place:
        """Add the trajectory that `make` gives for a group id; without a key it is a group of its own.

        Raises what the sink does; nothing has changed then.
        """
        group = self._open.get(key) if key is not None else None
        if group is None:
            group = _Open(f"{self._name}/{self._num_begun}/{task_id if key is None else key}", task_id, self._clock())
        trajectory = make(group.id)
        is_complete = key is None or len(group.members) + 1 >= self._size
        if is_complete:
            self._sink.write(group.group(trajectory))
        if not group.members:
            self._num_begun += 1
        group.members.append(trajectory)
        group.touched = self._clock()
        if is_complete:
            self._count(group, is_incomplete=False)
        if key is not None:
            self._open.pop(key, None)
            if not is_complete:
                self._open[key] = group
        if len(self._open) > self._max_open:
            self._write_early(next(iter(self._open)))
        return Place(group.id, len(group.members), is_complete)

    def sweep(self, expire_s: float) -> None:
        """Write incomplete groups to which nothing was added for so long."""
        now = self._clock()
        for key in [key for key, group in self._open.items() if now - group.touched >= expire_s]:
            self._write_early(key)

    def finish(self) -> None:
        """Write all incomplete groups. What cannot be written is lost and counted."""
        for key in list(self._open):
            if not self._write_early(key):
                self.num_lost += len(self._open.pop(key).members)

    def _write_early(self, key: str) -> bool:
        """Write an incomplete group. Where that fails it stays, and the reason is logged."""
        group = self._open[key]
        try:
            self._sink.write(group.group())
        except (AgentGymError, OSError) as error:
            _log.warning("Group '%s' cannot be stored: %s", group.id, error)
            return False
        del self._open[key]
        self._count(group, is_incomplete=True)
        return True

    def _count(self, group: _Open, *, is_incomplete: bool) -> None:
        self.num_written += 1
        self.num_incomplete += is_incomplete
        self.num_stored += len(group.members)
