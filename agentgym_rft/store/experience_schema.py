"""The tables of an experience store, as SQL statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

FORMAT = 1
QUIET = 0.05  # priority of a group whose returns are all equal, before freshness and uses; with signal it is 1 more

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
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
  use_count INTEGER NOT NULL DEFAULT 0,
  last_used_step INTEGER
);
CREATE INDEX groups_by_use ON groups (use_count, number);
CREATE TABLE bodies (number INTEGER PRIMARY KEY REFERENCES groups, body BLOB NOT NULL);
CREATE TABLE uses (number INTEGER NOT NULL REFERENCES groups, step INTEGER NOT NULL, PRIMARY KEY (number, step))
  WITHOUT ROWID;
CREATE INDEX uses_by_step ON uses (step);
CREATE TABLE drops (group_id TEXT PRIMARY KEY, reason TEXT NOT NULL, step INTEGER NOT NULL) WITHOUT ROWID;
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
