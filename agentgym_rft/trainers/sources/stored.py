"""Sources that take some or all groups of a batch from storage: offline, from an experience store, and replay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from agentgym_rft.config.run import Config, num_replayed
from agentgym_rft.core import Group
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.store.stored_groups import GroupStore
from agentgym_rft.trainers.batch.groups import imitated, split_errors, to_imitate
from agentgym_rft.trainers.sources.base import Batch, Source, SourceAround, Weights
from agentgym_rft.trainers.sources.experts import Demonstrator
from agentgym_rft.trainers.sources.explorer import Explorer, SyncSource
from agentgym_rft.trainers.sources.pipelined import staleness

BASELINE_GROUPS = 10_240  # newest groups whose mean returns make the baseline of self-imitation; SPEAR's number
EXPLORER = "agentgym explore"  # the owner that this command writes into its stores
_POLL_S = 0.05


class SourceEnded(Exception):
    """Raised when there will be no further batch: the run is done."""


class StoredSource(SourceAround):
    """Trains on groups that were stored before, in shuffled passes; the workers play evaluations only."""

    def __init__(self, explorer: Explorer, stored: GroupStore) -> None:
        super().__init__(SyncSource(explorer))
        self._explorer = explorer
        self._stored = stored

    def batch(self, step: int) -> Batch:
        keys = self._explorer.sampler.draw(self._explorer.config.rollout.num_tasks)
        return Batch(self._stored.groups(keys), is_sampled=False)

    def publish(self, version: int, weights: Weights) -> None:
        """Do nothing: nothing is played between evaluations."""


@dataclass(frozen=True, slots=True)
class StoreFile:
    """An experience store that a run opens at its start. `owner` is the program that writes it."""

    path: Path
    vocabulary: str
    owner: str

    def check(self) -> None:
        """Refuse a file that cannot be this store, before anything is done. Raises `DataError` or `ConfigError`."""
        if self.path.exists():
            self.open().close()
        elif not self.path.parent.is_dir():
            raise ConfigError(f"Cannot write '{self.path}': there is no directory '{self.path.parent}'.")

    def open(self) -> ExperienceStore:
        """Return the store. Raises `ConfigError` if somebody else fills it."""
        store = ExperienceStore(self.path, self.vocabulary)
        owner = store.owner
        if owner not in (None, self.owner):
            store.close()
            raise ConfigError(
                f"The experience store '{self.path}' is filled by {owner}, not by {self.owner}. Choose another "
                "store.path."
            )
        return store


class StoreSource(SourceAround):
    """Trains on what another process puts into a store (`agentgym explore`); the workers play evaluations only.

    A batch waits for `rollout.num_tasks` groups. Once the store is complete, the last batch may be smaller, and
    `SourceEnded` follows. At the start, uses by steps that this run has not done are undone. So a resumed run can
    take the groups of its lost steps again, and a new run begins with all.
    """

    def __init__(self, explorer: Explorer, file: StoreFile) -> None:
        super().__init__(SyncSource(explorer))
        self._config = explorer.config
        self._file = file
        self._stack = ExitStack()
        self._opened: ExperienceStore | None = None

    def begin(self, version: int, weights: Weights) -> None:
        store = self._opened = self._file.open()
        self._stack.callback(store.close)
        self._stack.enter_context(store.training())
        store.forget_uses(version - 1)
        super().begin(version, weights)

    def batch(self, step: int) -> Batch:
        store, section = _open(self._opened), self._config.store
        groups: list[Group] = []
        known, since = -1, time.monotonic()
        while len(groups) < self._config.rollout.num_tasks:
            is_finished = store.is_finished  # read before the groups are: once it is True, no group is added
            missing = self._config.rollout.num_tasks - len(groups)
            waiting = store.num_waiting(section.max_uses)
            if waiting >= missing or is_finished:
                taken = _taken(store, self._config, step, missing)
                groups += taken
                if is_finished and not taken:
                    break
            if waiting != known:
                known, since = waiting, time.monotonic()
            elif time.monotonic() - since > section.wait_s:
                raise DataError(
                    f"No group came into '{self._file.path}' for {section.wait_s:g} s, and nobody said that it is "
                    "complete. Start `agentgym explore` on it again, and go on with --resume."
                )
            if len(groups) < self._config.rollout.num_tasks:
                time.sleep(_POLL_S)
        if not groups:
            if step == 0:
                raise DataError(f"The experience store '{self._file.path}' is complete and has no group to train on.")
            raise SourceEnded(f"The experience store '{self._file.path}' has no further group: the run is done.")
        return Batch(groups, is_sampled=False, metrics=_replay_metrics(store, groups, len(groups), step))

    def publish(self, version: int, weights: Weights) -> None:
        """Do nothing: nothing is played here between evaluations, and explorers read the checkpoints."""

    def close(self) -> None:
        self._stack.close()


class ReplaySource(SourceAround):
    """Writes the groups of another source to a store, and adds some groups of earlier steps to each batch.

    A resumed run removes the groups that it had written for its lost steps and undoes their uses, so that it continues
    as if it had not been stopped.
    """

    def __init__(self, inner: Source, config: Config, file: StoreFile) -> None:
        super().__init__(inner)
        self._config = config
        self._file = file
        self._opened: ExperienceStore | None = None

    def begin(self, version: int, weights: Weights) -> None:
        store = self._file.open()
        store.fill(self._file.owner)
        self._opened = store
        store.forget_groups(version - 1)
        store.forget_uses(version - 1)
        super().begin(version, weights)

    def batch(self, step: int) -> Batch:
        store = _open(self._opened)
        batch = super().batch(step)
        number = num_replayed(self._config)
        taken = _taken(store, self._config, step, number) if number else []
        beside = split_errors(taken)[0]
        if self._config.store.replay_as == "imitation":
            beside = imitated(beside, store.mean_returns(BASELINE_GROUPS))
        metrics = _replay_metrics(store, taken, len(taken) + len(batch.groups), step) if number else {}
        for group in batch.groups:
            store.write(group, step)
        store.mark_used((group.group_id for group in batch.groups), step)
        return replace(batch, imitation_groups=[*batch.imitation_groups, *beside], metrics={**batch.metrics, **metrics})

    def close(self) -> None:
        super().close()
        if self._opened is not None:
            self._opened.finish()
            self._opened.close()


class ExpertSource(SourceAround):
    """Adds demonstrations to the batches of another source, to be imitated (see `Demonstrator`)."""

    def __init__(self, inner: Source, demonstrator: Demonstrator) -> None:
        super().__init__(inner)
        self._demonstrator = demonstrator

    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        found = self._demonstrator.demonstrations(step)
        metrics = {**batch.metrics, "experts/num": float(len(found))}
        return replace(batch, imitation_groups=[*batch.imitation_groups, *map(to_imitate, found)], metrics=metrics)

    def close(self) -> None:
        super().close()
        self._demonstrator.close()


def _taken(store: ExperienceStore, config: Config, step: int, number: int) -> list[Group]:
    section = config.store
    return store.take(
        step,
        number,
        section.rule,
        seed=config.run.seed,
        max_uses=section.max_uses,
        max_staleness=section.max_staleness,
    )


def _replay_metrics(store: ExperienceStore, taken: Sequence[Group], num_groups: int, step: int) -> dict[str, float]:
    uses = store.use_counts(group.group_id for group in taken)
    return {
        "replay/share": len(taken) / max(num_groups, 1),
        "replay/staleness_mean": fmean(staleness(group, step) for group in taken) if taken else 0.0,
        "replay/uses_mean": fmean(uses) if uses else 0.0,
        "replay/waiting": float(store.num_waiting(1)),
    }


def _open(store: ExperienceStore | None) -> ExperienceStore:
    assert store is not None, "begin comes before batch"
    return store
