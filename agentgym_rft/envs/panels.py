"""Task panels: frozen, content-hashed lists of tasks, so that two results compare only if their panels are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import DataError


@dataclass(frozen=True, slots=True)
class Panel:
    """The first tasks of a split.

    `panel_hash` is the sha256 over the ordered task ids and the sha256 of each task's content.
    """

    env_id: str
    split: str
    task_ids: tuple[str, ...]
    panel_hash: str

    def __len__(self) -> int:
        return len(self.task_ids)


def load_panel(env: TextEnv, split: str, num_tasks: int | None = None, *, env_id: str | None = None) -> Panel:
    """The panel of the first `num_tasks` tasks of a split, or of all where the split has fewer.

    Args:
        env: an instance; its episode is not touched.
        split: one of the environment's splits.
        num_tasks: None takes the whole split.
        env_id: the id to record; default: the one the environment was made by, else its class.
    Raises:
        DataError: the split is unknown or empty.
    """
    ids = tuple(env.task_ids(split)[:num_tasks])
    if not ids:
        raise DataError(f"Split '{split}' of {type(env).__name__} has no tasks.")
    return Panel(env_id or _id_of(env), split, ids, panel_hash(env, ids))


def content_hash(env: TextEnv, task_id: str) -> str:
    """sha256 of a task's canonical content, in hex."""
    return hashlib.sha256(env.task_content(task_id)).hexdigest()


def panel_hash(env: TextEnv, task_ids: Sequence[str]) -> str:
    """sha256 over the lines `task id, NUL, content hash`, in order, in hex."""
    digest = hashlib.sha256()
    for task_id in task_ids:
        digest.update(f"{task_id}\0{content_hash(env, task_id)}\n".encode())
    return digest.hexdigest()


def assert_disjoint(env: TextEnv, split_a: str, split_b: str, num_tasks: int | None = None) -> None:
    """Raise `DataError`, naming one pair, if a task of one split has the content of a task of the other.

    `num_tasks` looks only at the first tasks of each split, where a split is very long.
    """
    by_content = {content_hash(env, task_id): task_id for task_id in env.task_ids(split_a)[:num_tasks]}
    for task_id in env.task_ids(split_b)[:num_tasks]:
        twin = by_content.get(content_hash(env, task_id))
        if twin is not None:
            raise DataError(
                f"Splits '{split_a}' and '{split_b}' overlap: task '{task_id}' of '{split_b}' has the same content "
                f"as '{twin}' of '{split_a}'."
            )


def _id_of(env: TextEnv) -> str:
    if env.spec is not None:
        return str(env.spec.id)
    return f"{type(env).__module__}:{type(env).__qualname__}"
