"""The tables of an experience store, as SQL statements, and how damage in them is found.

Every row has a checksum of what was written in it. A group's counters change with its uses, so they are compared with
those; its body has a checksum of its own, which is compared when it is read.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping

FORMAT = 2
QUIET = 0.05  # priority of a group whose returns are all equal, before freshness and uses; with signal it is 1 more

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE groups (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  group_id TEXT NOT NULL UNIQUE,
  task_id TEXT NOT NULL,
  step INTEGER NOT NULL,
  oldest_version INTEGER NOT NULL,
  newest_version INTEGER NOT NULL,
  num_valid INTEGER NOT NULL,
  num_errored INTEGER NOT NULL,
  mean_return REAL NOT NULL,
  has_signal INTEGER NOT NULL,
  num_tokens INTEGER NOT NULL,
  max_token_id INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  use_count INTEGER NOT NULL DEFAULT 0,
  last_used_step INTEGER
);
CREATE INDEX groups_by_use ON groups (use_count, number);
CREATE TABLE bodies (number INTEGER PRIMARY KEY REFERENCES groups, body BLOB NOT NULL);
CREATE TABLE uses (number INTEGER NOT NULL REFERENCES groups, step INTEGER NOT NULL, checksum INTEGER NOT NULL,
  PRIMARY KEY (number, step)) WITHOUT ROWID;
CREATE INDEX uses_by_step ON uses (step);
CREATE TABLE drops (group_id TEXT PRIMARY KEY, reason TEXT NOT NULL, step INTEGER NOT NULL, checksum INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TRIGGER used AFTER INSERT ON uses BEGIN
  UPDATE groups SET use_count = use_count + 1, last_used_step = max(ifnull(last_used_step, -1), new.step)
  WHERE number = new.number;
END;
CREATE TRIGGER given_back AFTER DELETE ON uses BEGIN
  UPDATE groups SET use_count = use_count - 1,
    last_used_step = (SELECT max(step) FROM uses WHERE number = old.number) WHERE number = old.number;
END;
CREATE VIEW experience AS
  SELECT groups.*, drops.reason AS dropped,
    (has_signal + {quiet}) / ((1.0 + (SELECT max(newest_version) FROM groups) - oldest_version) * (1 + use_count))
      AS priority
  FROM groups LEFT JOIN drops USING (group_id);
"""


def _statements(schema: str) -> Iterator[str]:
    """Split the schema into statements, a trigger with its body. sqlite3's own script call would end transactions."""
    statement = ""
    for line in schema.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


STATEMENTS = tuple(_statements(_SCHEMA.format(quiet=QUIET)))
COLUMNS: Mapping[str, tuple[str, ...]] = {  # that a row's checksum is of
    "meta": ("key", "value"),
    "groups": (
        *("group_id", "task_id", "step", "oldest_version", "newest_version", "num_valid", "num_errored"),
        *("mean_return", "has_signal", "num_tokens", "max_token_id"),
    ),
    "uses": ("number", "step"),
    "drops": ("group_id", "reason", "step"),
}
_COUNTERS = """
SELECT number FROM groups LEFT JOIN bodies USING (number) WHERE typeof(body) != 'blob'
  OR use_count != (SELECT count(*) FROM uses WHERE uses.number = groups.number)
  OR last_used_step IS NOT (SELECT max(uses.step) FROM uses WHERE uses.number = groups.number)
"""


def row_checksum(*values: int | float | str) -> int:
    """Return the checksum of a row: of its values, in the order of `COLUMNS`."""
    return zlib.crc32(repr(values).encode())


def damage_of(db: sqlite3.Connection) -> str | None:
    """Return what is wrong with the rows of a store, or None; all of it is read once. Raises sqlite3.Error."""
    (problem,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if problem != "ok":
        return f"its structure is broken ({' '.join(problem.split())})"
    stored = {row[0] for row in db.execute("SELECT sql FROM sqlite_master")}
    if not stored >= {statement.strip().removesuffix(";") for statement in STATEMENTS}:
        return "its tables are others"
    for table, columns in COLUMNS.items():
        for *values, checksum in db.execute(f"SELECT {', '.join(columns)}, checksum FROM {table}"):
            if row_checksum(*values) != checksum:
                return f"row {values[0]} of its table '{table}' has changed since it was written"
    wrong = db.execute(_COUNTERS).fetchone()
    return None if wrong is None else f"row {wrong[0]} of its table 'groups' does not fit its body or its uses"
