"""The experience store: groups in one SQLite file, written once, readable meanwhile, with a record of every use.

    groups   a row a group: what a rule needs to choose by
    bodies   its trajectories, auxiliary ones included, as `trajectories.group_bytes`
    uses     a row for each step that trained on a group
    drops    groups that were played and are never trained, with the reason
    meta     the tokenizer, the state of who plays, and the like
    experience   a view of all of it, with `use_count`, `last_used_step` and `priority`, for any SQLite client

The file is in WAL mode: readers never wait for a writer. Every group is a transaction of its own, synced to disk, so a
process that is killed loses at most the group it was writing. Rows have checksums, which are compared when the file is
opened; bodies have theirs, compared when they are read.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from agentgym_rft.core import Group, Trajectory
from agentgym_rft.errors import ConfigError, DataError, StorageError
from agentgym_rft.json_text import checked_json
from agentgym_rft.store.experience_schema import COLUMNS, FORMAT, QUIET, STATEMENTS, damage_of, row_checksum
from agentgym_rft.store.files import lock, open_to_append
from agentgym_rft.store.trajectories import group_bytes, group_of_bytes

_STATE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
Rule = Literal["fifo", "uniform", "priority"]


@dataclass(frozen=True, slots=True)
class Accounting:
    """Counts of the groups that were played: written = used + unused + dropped after writing."""

    written: int
    used: int  # groups trained at least once
    unused: int  # groups never trained and not dropped
    uses: int  # how often groups were trained, in all
    refused: int  # second writes of the same id
    dropped: Mapping[str, int]  # by reason; groups without a valid trajectory were never written


def priority(has_signal: bool, age: int, use_count: int) -> float:
    """Return (signal + 0.05) / ((1 + age) (1 + uses)): the view's formula, with `age` in versions. Source: ours."""
    return (has_signal + QUIET) / ((1 + max(age, 0)) * (1 + use_count))


def vocabulary_of(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's tokens and their numbers."""
    tokens = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(tokens.encode()).hexdigest()[:16]


class ExperienceStore:
    """An open store.

    The file is made if it is missing and `vocabulary` is given. Each process and thread opens its own.

    Args:
        path: the file; SQLite keeps two more beside it while it is open.
        vocabulary: of the tokenizer that writes or reads it, see `vocabulary_of`; None: not checked.
    Raises:
        DataError: it is missing, damaged, something else, or of another vocabulary.
    """

    def __init__(self, path: Path, vocabulary: str | None = None) -> None:
        self.path = path.absolute()
        self._filling: BinaryIO | None = None
        if vocabulary is None and not path.is_file():
            raise DataError(f"There is no experience store '{path}'. Give the file that `agentgym explore` writes.")
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            with ExitStack() as refused:
                refused.push(self._leave)
                self._begin(vocabulary)
                refused.pop_all()
        except (sqlite3.Error, StorageError, UnicodeDecodeError) as error:
            reason = error.__cause__ or error
            raise DataError(f"'{path}' cannot be used as an experience store: {reason}.") from error

    # Writing

    def write(self, group: Group, step: int = 0, state: Mapping[str, Any] | None = None) -> bool:
        """Store a group. False if its id is there already (counted), or it has no valid trajectory (dropped).

        Args:
            step: the step it was played for, see `forget_groups`.
            state: of the program that plays, kept with the group, see `state`.
        """
        row = _row(group, step)
        with self._transaction():
            if state is not None:
                self._set("state", json.dumps(state))
            if self._has(group.group_id):
                self._set("refused", str(int(self._get("refused") or 0) + 1))
                return False
            if not group.valid:
                self._drop(group.group_id, "no_valid_trajectory", step)
                return False
            number = self._insert("groups", *(row[column] for column in COLUMNS["groups"]))
            self._execute("INSERT INTO bodies VALUES (?, ?)", (number, group_bytes(group)))
        return True

    def drop(self, group_id: str, reason: str, step: int = 0) -> None:
        """Record that a group is never trained, and why; whether it was written or not."""
        with self._transaction():
            self._drop(group_id, reason, step)

    def fill(self, owner: str | None = None) -> None:
        """Become the one process that fills the store, until it is closed; `owner` is its program from now on.

        Another one would say that the store is complete, or repeat ids. Raises `ConfigError` if there is another one,
        and closes this store.
        """
        others = f"Another program is filling the experience store '{self.path}'. Wait for its end, or give another."
        with ExitStack() as refused:
            refused.callback(self.close)
            self._filling = self._locked("writer.lock", others)
            if owner is not None:
                self._set("owner", owner)
            self._set("finished", "0")
            refused.pop_all()

    def finish(self) -> None:
        """Mark the store as complete: a reader does not wait for more groups."""
        self._set("finished", "1")

    @property
    def is_finished(self) -> bool:
        return self._get("finished") == "1"

    @property
    def owner(self) -> str | None:
        """The program that writes the store; None if none has said so."""
        return self._get("owner")

    @property
    def state(self) -> dict[str, Any] | None:
        """The state that was stored with the last group. Raises ValueError if it is none."""
        text = self._get("state")
        return None if text is None else checked_json(_STATE, text)

    # Reading

    @property
    def keys(self) -> Sequence[str]:
        """Ids of the groups, in the order they were written."""
        return [row[0] for row in self._execute("SELECT group_id FROM groups ORDER BY number")]

    @property
    def max_token_id(self) -> int:
        """The largest token id of all, -1 without any."""
        return int(self._execute("SELECT ifnull(max(max_token_id), -1) FROM groups").fetchone()[0])

    def groups(self, keys: Iterable[str]) -> list[Group]:
        """Return the groups of some ids, as they were written. Raises `DataError` for a damaged one."""
        return [self._group(key) for key in keys]

    def _group(self, key: str) -> Group:
        query = "SELECT body FROM bodies JOIN groups USING (number) WHERE group_id = ?"
        group = group_of_bytes(self._execute(query, (key,)).fetchone()[0], f"{self.path}: {key}")
        if group.group_id != key:
            raise DataError(f"The experience store '{self.path}' is damaged: '{key}' holds '{group.group_id}'.")
        return group

    def mean_returns(self, last: int) -> list[float]:
        """Return the mean returns of the newest groups, oldest first."""
        query = "SELECT mean_return FROM groups ORDER BY number DESC LIMIT ?"
        return [row[0] for row in self._execute(query, (last,))][::-1]

    # Training

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the lock for training on groups. Raises `ConfigError` if another process holds it."""
        others = f"Another run is training on '{self.path}'; two would train on the same groups. Give each its own."
        with closing(self._locked("lock", others)):
            self._set("reader", "here")
            try:
                yield
            finally:
                with suppress(StorageError):  # it would hide why the run ends
                    self._set("reader", "gone")

    @property
    def reader_left(self) -> bool:
        """True if a run trained on the store and has ended, so that nothing reads further groups."""
        return self._get("reader") == "gone"

    def take(
        self,
        step: int,
        number: int,
        rule: Rule = "fifo",
        *,
        seed: int = 0,
        max_uses: int | None = 1,
        max_staleness: int | None = None,
    ) -> list[Group]:
        """Return at most so many groups, each marked as used in a step (of weights of that version); never one twice
        at once.

        Args:
            rule: fifo takes the least used, of those the oldest; uniform and priority draw at random, by `seed`.
            max_uses: steps that may train on a group; None: any number.
            max_staleness: groups whose oldest turn lags more versions behind are dropped as `stale`; None: none.
        """
        with self._transaction():
            if max_staleness is not None:
                self._drop_stale(step, max_staleness)
            oldest = None if max_staleness is None else step - max_staleness
            found = self._candidates(step, max_uses, oldest)
            chosen = _choose(found, number, rule, step, seed)
            for row in chosen:
                self._insert("uses", row.number, step)
        return self.groups(row.group_id for row in chosen)

    def mark_used(self, group_ids: Iterable[str], step: int) -> None:
        """Count groups as used in a step that trains on them anyway; ids that were never written are left out."""
        with self._transaction():
            for group_id in group_ids:
                found = self._execute("SELECT number FROM groups WHERE group_id = ?", (group_id,)).fetchone()
                if found is not None:
                    self._insert("uses", found[0], step)

    def use_counts(self, group_ids: Iterable[str]) -> list[int]:
        """Return the number of steps that have trained on each of some groups."""
        query = "SELECT use_count FROM groups WHERE group_id = ?"
        return [int(self._execute(query, (group_id,)).fetchone()[0]) for group_id in group_ids]

    def num_waiting(self, max_uses: int | None = 1) -> int:
        """Return groups that can still be taken."""
        query = f"SELECT count(*) FROM groups WHERE {_usable(max_uses)}"
        return int(self._execute(query).fetchone()[0])

    def forget_uses(self, after_step: int) -> int:
        """Undo the uses and drops of all later steps, which a resumed run repeats. Returns the number of uses."""
        with self._transaction():
            self._execute("DELETE FROM drops WHERE step > ? AND reason = 'stale'", (after_step,))
            return self._execute("DELETE FROM uses WHERE step > ?", (after_step,)).rowcount

    def forget_groups(self, after_step: int) -> int:
        """Remove the groups that were played for later steps, with their uses; returns how many.

        For a run that plays its groups itself, and will play those steps again.
        """
        later = "(SELECT number FROM groups WHERE step > ?)"
        with self._transaction():
            for table in ("uses", "bodies"):
                self._execute(f"DELETE FROM {table} WHERE number IN {later}", (after_step,))
            self._execute("DELETE FROM drops WHERE step > ?", (after_step,))
            return self._execute("DELETE FROM groups WHERE step > ?", (after_step,)).rowcount

    def accounting(self) -> Accounting:
        """Return the counts of all groups, read in one transaction."""
        with self._transaction("DEFERRED"):
            counts = "SELECT count(*), ifnull(sum(use_count > 0), 0), ifnull(sum(use_count), 0) FROM groups"
            written, used, uses = self._execute(counts).fetchone()
            unused = self._execute(f"SELECT count(*) FROM groups WHERE use_count = 0 AND {_KEPT}").fetchone()[0]
            dropped = dict(self._execute("SELECT reason, count(*) FROM drops GROUP BY reason"))
            return Accounting(written, used, unused, uses, int(self._get("refused") or 0), dropped)

    def close(self) -> None:
        """Close the file; what was written is there."""
        self._db.close()
        if self._filling is not None:
            self._filling.close()

    def _locked(self, name: str, others: str) -> BinaryIO:
        """Return a locked file beside the store. Raises `ConfigError` with this sentence if it is locked already."""
        path = self.path.resolve()  # links to the store have their own names
        file = open_to_append(path.with_name(f"{path.name}.{name}"))
        try:
            lock(file)
        except BlockingIOError as error:
            file.close()
            raise ConfigError(others) from error
        return file

    def _leave(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close a file that was refused. A cursor in a frame of the errors would keep it open, and locked."""
        while error is not None:
            clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        self._db.close()

    def _begin(self, vocabulary: str | None) -> None:
        self._execute("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = FULL")
        with self._transaction():
            if vocabulary is not None and self._execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                for statement in STATEMENTS:
                    self._execute(statement)
                self._set("format", str(FORMAT))
                self._set("vocabulary", vocabulary)
        with self._transaction("DEFERRED"):
            self._check(vocabulary)

    def _check(self, vocabulary: str | None) -> None:
        """Raise `DataError` for something else than an undamaged store of this format and vocabulary."""
        tables = [row[0] for row in self._execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        version = self._get("format") if "meta" in tables else None
        if version != str(FORMAT):
            found = "no experience store" if version is None else f"an experience store of format {version}"
            raise DataError(f"'{self.path}' is {found}, expected one of format {FORMAT}. Give another file.")
        if damage := damage_of(self._db):
            raise DataError(f"The experience store '{self.path}' is damaged: {damage}. Restore it from a copy.")
        if vocabulary is not None and self._get("vocabulary") != vocabulary:
            raise DataError(
                f"The experience in '{self.path}' is of another tokenizer than the policy's. Give a store of a "
                "policy with the same tokenizer, or a new file."
            )

    @contextmanager
    def _transaction(self, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
        with self._writing():
            self._execute(f"BEGIN {kind}")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite itself has ended it
                    self._execute("ROLLBACK")
                raise

    def _execute(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement. Raises DataError where SQLite meets damage that was not there when the store was opened."""
        try:
            return self._db.execute(query, values)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            raise DataError(
                f"The experience store '{self.path}' is damaged: {error}. Restore it from a copy."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise StorageError where the disk refuses."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"Cannot write to '{self.path}': {error}. What is in it is unchanged: make room and go on."
            ) from error

    def _has(self, group_id: str) -> bool:
        query = "SELECT 1 FROM groups WHERE group_id = ? UNION ALL SELECT 1 FROM drops WHERE group_id = ?"
        return self._execute(query, (group_id, group_id)).fetchone() is not None

    def _drop(self, group_id: str, reason: str, step: int) -> None:
        self._insert("drops", group_id, reason, step)

    def _drop_stale(self, step: int, max_staleness: int) -> None:
        query = f"SELECT group_id FROM groups WHERE oldest_version < ? AND use_count = 0 AND {_KEPT}"
        for (group_id,) in self._execute(query, (step - max_staleness,)).fetchall():
            self._drop(group_id, "stale", step)

    def _insert(self, table: str, *values: Any, conflict: Literal["IGNORE", "REPLACE"] = "IGNORE") -> int | None:
        """Insert a row with its checksum, and return its number; a row of the same key stays, or is replaced."""
        columns = (*COLUMNS[table], "checksum")
        query = f"INSERT OR {conflict} INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        return self._execute(query, (*values, row_checksum(*values))).lastrowid

    def _candidates(self, step: int, max_uses: int | None, oldest: int | None) -> list[_Candidate]:
        """Return all groups that may be used in a step."""
        fresh = "" if oldest is None else f"AND oldest_version >= {oldest}"
        query = f"SELECT number, group_id, has_signal, oldest_version, use_count FROM groups WHERE {_usable(max_uses)}"
        rows = self._execute(f"{query} {fresh} AND number NOT IN (SELECT number FROM uses WHERE step = ?)", (step,))
        return [
            _Candidate(number, group_id, priority(bool(signal), step - oldest_version, uses), uses)
            for number, group_id, signal, oldest_version, uses in rows
        ]

    def _get(self, key: str) -> str | None:
        row = self._execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        with self._writing():
            self._insert("meta", key, value, conflict="REPLACE")


class _Candidate(NamedTuple):
    """The data of a group that a rule chooses by."""

    number: int
    group_id: str
    priority: float
    uses: int


_KEPT = "group_id NOT IN (SELECT group_id FROM drops)"


def _usable(max_uses: int | None) -> str:
    return _KEPT if max_uses is None else f"use_count < {max_uses} AND {_KEPT}"


def _choose(found: Sequence[_Candidate], number: int, rule: Rule, step: int, seed: int) -> list[_Candidate]:
    """Return at most `number` of the candidates, in the order they are trained."""
    if rule == "fifo":
        return sorted(found, key=lambda row: (row.uses, row.number))[:number]
    rng = np.random.default_rng([seed, step])
    weights = np.array([row.priority if rule == "priority" else 1.0 for row in found])
    number = min(number, len(found))
    if not number:
        return []
    drawn = rng.choice(len(found), size=number, replace=False, p=weights / weights.sum())
    return [found[int(index)] for index in drawn]


def _row(group: Group, step: int) -> dict[str, Any]:
    returns = [trajectory.episode_return for trajectory in group.valid]
    turns = [turn for trajectory in group.valid for turn in trajectory.turns]
    oldest = [turn.policy_version for turn in turns]
    newest = [turn.policy_version if turn.last_version is None else turn.last_version for turn in turns]
    everything: tuple[Trajectory, ...] = (*group.valid, *group.auxiliary)
    ids = (max((*turn.context_ids, *turn.action_ids), default=-1) for t in everything for turn in t.turns)
    return {
        "group_id": group.group_id,
        "task_id": group.task_id,
        "step": step,
        "oldest_version": min(oldest, default=0),
        "newest_version": max(newest, default=0),
        "num_valid": len(group.valid),
        "num_errored": len(group.trajectories) - len(group.valid),
        "mean_return": sum(returns) / max(len(returns), 1),
        "has_signal": int(_has_signal(group)),
        "num_tokens": sum(trajectory.num_action_tokens for trajectory in everything),
        "max_token_id": max(ids, default=-1),
    }


def _has_signal(group: Group) -> bool:
    """Return whether the returns of one of the agents differ. Those of agents that play each other always do."""
    returns: dict[str, set[float]] = {}
    for trajectory in group.valid:
        returns.setdefault(trajectory.agent_id, set()).add(trajectory.episode_return)
    return any(len(own) > 1 for own in returns.values())
