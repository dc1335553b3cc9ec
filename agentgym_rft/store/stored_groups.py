"""Reads stored groups of trajectories, from a run's trajectory files or from an experience store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from agentgym_rft.core import Group, Trajectory
from agentgym_rft.errors import DataError
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.store.trajectories import SUFFIX, read_trajectories

STORED_VERSION = -1  # no policy in training has it, so stored turns never count as sampled by the current one
_FILES_KEPT = 4  # trajectory files held in memory


class GroupStore(Protocol):
    """Stored groups by name. Their turns keep the sampler's log-probs and have `STORED_VERSION`."""

    @property
    def keys(self) -> Sequence[str]:
        """Name of each group, always in the same order."""
        ...

    @property
    def max_token_id(self) -> int:
        """The largest token id of all."""
        ...

    def groups(self, keys: Iterable[str]) -> list[Group]:
        """Return the groups of some names."""
        ...


def open_groups(path: Path) -> GroupStore:
    """Return the groups in a run directory, a folder of trajectory files, or an experience store.
    Raises `DataError`.
    """
    return StoredExperience(path) if path.is_file() else StoredGroups(path)


class StoredExperience:
    """The groups that an experience store holds now, auxiliary trajectories included.

    Raises:
        DataError: the file is no experience store, or has no group.
    """

    def __init__(self, path: Path) -> None:
        self._store = ExperienceStore(path)
        self.keys: Sequence[str] = self._store.keys
        self.max_token_id = self._store.max_token_id
        if not self.keys:
            raise DataError(f"The experience store '{path}' has no group yet. Fill it with `agentgym explore`.")

    def groups(self, keys: Iterable[str]) -> list[Group]:
        """Return the groups of some keys. Their turns keep the sampler's log-probs and have `STORED_VERSION`."""
        return [_of_no_version(group) for group in self._store.groups(keys)]


class StoredGroups:
    """The groups in a run directory or in a folder of trajectory files, read from disk as they are asked for.

    Every file is read once at the start, so that a damaged one is refused before training. Groups without a single
    valid trajectory are left out. Auxiliary trajectories are not stored.

    Raises:
        DataError: there are no stored trajectories, none is valid, or a file is damaged.
    """

    def __init__(self, path: Path) -> None:
        folder = path / "trajectories" if (path / "trajectories").is_dir() else path
        files = sorted(folder.glob(f"step_*{SUFFIX}"))
        self._places: dict[str, tuple[Path, str]] = {}
        self.max_token_id = -1
        for file in files:
            for group in _groups(read_trajectories(file)):
                if group.valid:
                    self._places[f"{file.name}:{group.group_id}"] = (file, group.group_id)
                    self.max_token_id = max(self.max_token_id, _max_token_id(group))
        if not self._places:
            found = f"the {len(files)} files hold no valid one" if files else f"there is no file 'step_*{SUFFIX}'"
            raise DataError(f"'{path}' has no stored trajectories: {found}. Give a run directory that saved some.")
        self._read = lru_cache(_FILES_KEPT)(_by_id)

    @property
    def keys(self) -> Sequence[str]:
        """Name of each group, in the order of files."""
        return list(self._places)

    def groups(self, keys: Iterable[str]) -> list[Group]:
        """Return the groups of some keys. Their turns keep the sampler's log-probs and have `STORED_VERSION`."""
        found = []
        for key in keys:
            file, group_id = self._places[key]
            found.append(self._read(file)[group_id])
        return found


def _by_id(file: Path) -> dict[str, Group]:
    return {group.group_id: group for group in _groups(read_trajectories(file))}


def _groups(trajectories: Iterable[Trajectory]) -> Iterator[Group]:
    """Yield trajectories by group, in the order of their first members."""
    members: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        members.setdefault(trajectory.group_id, []).append(trajectory)
    for group_id, group in members.items():
        yield _of_no_version(Group(group_id, group[0].task_id, tuple(group)))


def _of_no_version(group: Group) -> Group:
    def changed(trajectory: Trajectory) -> Trajectory:
        turns = (replace(turn, policy_version=STORED_VERSION, last_version=None) for turn in trajectory.turns)
        return replace(trajectory, turns=tuple(turns))

    trajectories, auxiliary = (tuple(map(changed, part)) for part in (group.trajectories, group.auxiliary))
    return replace(group, trajectories=trajectories, auxiliary=auxiliary)


def _max_token_id(group: Group) -> int:
    ids = (max((*turn.context_ids, *turn.action_ids), default=-1) for t in group.valid for turn in t.turns)
    return max(ids, default=-1)
