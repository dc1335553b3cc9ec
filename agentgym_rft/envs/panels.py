"""Task panels: frozen, content-hashed lists of tasks, so that two results compare only if their panels are equal."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import DataError

# Options that change no result: where the files lie (their content is hashed), how a person sees the episode, and what
# `reset` without a task draws from.
_PASSING_OPTIONS = ("data", "render_mode", "split")


@dataclass(frozen=True, slots=True)
class Panel:
    """The first tasks of a split.

    `panel_hash` is the sha256 over the ordered task ids and the sha256 of each task's content; `contents` are the
    latter, one a task, in hex.
    """

    env_id: str
    split: str
    task_ids: tuple[str, ...]
    panel_hash: str
    contents: tuple[str, ...] = ()

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
    contents = tuple(content_hash(env, task_id) for task_id in ids)
    return Panel(env_id or _id_of(env), split, ids, hash_of(ids, contents), contents)


def content_hash(env: TextEnv, task_id: str) -> str:
    """sha256 of a task's canonical content, in hex."""
    return hashlib.sha256(env.task_content(task_id)).hexdigest()


def hash_of(task_ids: Sequence[str], contents: Sequence[str]) -> str:
    """sha256 over the lines `task id, NUL, content hash`, in order, in hex."""
    digest = hashlib.sha256()
    for task_id, content in zip(task_ids, contents, strict=True):
        digest.update(f"{task_id}\0{content}\n".encode())
    return digest.hexdigest()


def panel_hash(env: TextEnv, task_ids: Sequence[str]) -> str:
    """The hash of some tasks of an environment, see `hash_of`."""
    return hash_of(task_ids, [content_hash(env, task_id) for task_id in task_ids])


def quoted_split(env: TextEnv, split: str | None) -> str:
    """The given split, else the one that the environment's results are quoted on: the last of its `splits`."""
    return env.splits[-1] if split is None else split


def assert_disjoint(env: TextEnv, split_a: str, split_b: str, num_tasks: int | None = None) -> None:
    """Raise `DataError`, naming one pair, if a task of one split has the content of a task of the other.

    `num_tasks` looks only at the first tasks of each split, where a split is very long.
    """
    ids = env.task_ids(split_b)[:num_tasks]
    contents = [content_hash(env, task_id) for task_id in ids]
    _assert_none_in(env, split_a, env.task_ids(split_a)[:num_tasks], split_b, dict(zip(contents, ids, strict=True)))


def assert_held_out(env: TextEnv, panel: Panel, train_split: str) -> None:
    """Raise `DataError`, naming one pair, if a task of the panel has the content of a training task.

    Every training task is hashed, at the cost of reading or generating it once.
    """
    tasks = dict(zip(panel.contents, panel.task_ids, strict=True))
    _assert_none_in(env, train_split, env.task_ids(train_split), panel.split, tasks)


def _assert_none_in(env: TextEnv, split: str, ids: Sequence[str], other: str, by_content: Mapping[str, str]) -> None:
    for task_id in ids:
        twin = by_content.get(content_hash(env, task_id))
        if twin is not None:
            raise DataError(
                f"Splits '{split}' and '{other}' overlap: task '{twin}' of '{other}' has the same content "
                f"as '{task_id}' of '{split}'."
            )


def lasting_options(env: TextEnv, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an environment that a result depends on: those that differ from the defaults of its class.

    Left out are paths, since contents are hashed, and what only concerns rendering or drawing.
    """
    options = dict(given) if env.spec is None else dict(env.spec.kwargs)
    parameters = inspect.signature(_class_of(env)).parameters
    return {
        name: options[name]
        for name in sorted(options)
        if name not in _PASSING_OPTIONS and not (name in parameters and parameters[name].default == options[name])
    }


def _id_of(env: TextEnv) -> str:
    if env.spec is not None:
        return str(env.spec.id)
    made = _class_of(env)
    return f"{made.__module__}:{made.__qualname__}"


def _class_of(env: TextEnv) -> type:
    return type(env.env) if isinstance(env, TurnsEnv) else type(env)
