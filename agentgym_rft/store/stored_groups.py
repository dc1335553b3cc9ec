"""Groups of trajectories that an earlier run stored, as a source of training batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from agentgym_rft.core import Group, Trajectory
from agentgym_rft.errors import DataError
from agentgym_rft.store.trajectories import SUFFIX, read_trajectories

STORED_VERSION = -1  # of no policy that is in training: stored turns never count as sampled by the current one
_FILES_KEPT = 4  # trajectory files held in memory


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
        """The groups of some keys. Their turns keep the sampler's log-probs and have `STORED_VERSION`."""
        found = []
        for key in keys:
            file, group_id = self._places[key]
            found.append(self._read(file)[group_id])
        return found


def _by_id(file: Path) -> dict[str, Group]:
    return {group.group_id: group for group in _groups(read_trajectories(file))}


def _groups(trajectories: Iterable[Trajectory]) -> Iterator[Group]:
    """Trajectories by group, in the order of their first members."""
    members: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        turns = tuple(replace(turn, policy_version=STORED_VERSION) for turn in trajectory.turns)
        members.setdefault(trajectory.group_id, []).append(replace(trajectory, turns=turns))
    for group_id, group in members.items():
        yield Group(group_id, group[0].task_id, tuple(group))


def _max_token_id(group: Group) -> int:
    ids = (max((*turn.context_ids, *turn.action_ids), default=-1) for t in group.valid for turn in t.turns)
    return max(ids, default=-1)
