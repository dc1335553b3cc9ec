"""Task panels: frozen, content-hashed lists of tasks, so that two results compare only if their panels are equal."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import DataError, NoTasksError
from agentgym_rft.json_text import OPEN, Name, checked, read_json

# Options that change no result: where the files lie (their content is hashed), how a person sees the episode, and what
# `reset` without a task draws from.
_PASSING_OPTIONS = ("data", "render_mode", "split")

# Of panel files.
FORMAT = "agentgym-panel"
VERSION = 1
_ADVICE = "Freeze a new panel with `agentgym panel freeze`"


@with_config(OPEN)
class _Head(TypedDict):
    """What every version of a panel file has."""

    format: str
    version: Any


class _Task(TypedDict):
    id: Name
    content: Name


class _Body(_Head):
    env: Name
    options: dict[str, Any]
    split: Name
    held_out_of: Name | None
    panel_hash: Name
    tasks: Annotated[list[_Task], Field(min_length=1)]


_HEAD, _BODY = TypeAdapter(_Head), TypeAdapter(_Body)


@dataclass(frozen=True, slots=True)
class Panel:
    """The first tasks of a split, with what makes their environment again.

    `panel_hash` is the sha256 over the ordered task ids and the sha256 of each task's content; `contents` are the
    latter, one a task, in hex. `options` are those of the environment that matter (see `lasting_options`).
    `held_out_of` is the training split that the panel shares no task with; None where that was not checked, or the
    panel is of the training split itself. `unchecked` is a sentence where it should have been and could not be.
    """

    env_id: str
    split: str
    task_ids: tuple[str, ...]
    panel_hash: str
    contents: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    held_out_of: str | None = None
    unchecked: str = ""

    def __len__(self) -> int:
        return len(self.task_ids)


def load_panel(env: TextEnv, split: str, num_tasks: int | None = None, *, env_id: str | None = None) -> Panel:
    """Return the panel of the first `num_tasks` tasks of a split, or of all where the split has fewer.

    It is not compared with the training split, see `held_out_panel`.

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
        raise _no_tasks(env, split)
    contents = tuple(content_hash(env, task_id) for task_id in ids)
    return Panel(env_id or _id_of(env), split, ids, hash_of(ids, contents), contents)


def held_out_panel(
    env: TextEnv,
    options: Mapping[str, Any],
    split: str,
    num_tasks: int | None = None,
    *,
    env_id: str,
    train_split: str | None = None,
    whole_split: bool = False,
) -> Panel:
    """Return the panel of a split, checked to share no task with the training split by content.

    Where the data hold no training split at all the panel says so, and is held out of nothing.

    Args:
        options: what `env` was made with.
        num_tasks: only the first tasks of the split.
        env_id: the id to record.
        train_split: default: the first of `env.splits`.
        whole_split: check all tasks of the split, not those of the panel alone.
    Raises:
        DataError: the split is unknown or empty, or the panel shares a task with the training split.
    """
    panel = replace(load_panel(env, split, num_tasks, env_id=env_id), options=lasting_options(env, options))
    train = env.splits[0] if train_split is None else train_split
    if split == train:
        return panel
    if not whole_split:
        return _compared(env, panel, train)
    assert_disjoint(env, train, split)
    return replace(panel, held_out_of=train)


def content_hash(env: TextEnv, task_id: str) -> str:
    """Return the sha256 of a task's canonical content, in hex."""
    return hashlib.sha256(env.task_content(task_id)).hexdigest()


def hash_of(task_ids: Sequence[str], contents: Sequence[str]) -> str:
    """Return the sha256 over the lines `task id, NUL, content hash`, in order, in hex."""
    digest = hashlib.sha256()
    for task_id, content in zip(task_ids, contents, strict=True):
        digest.update(f"{task_id}\0{content}\n".encode())
    return digest.hexdigest()


def panel_hash(env: TextEnv, task_ids: Sequence[str]) -> str:
    """Return the hash of some tasks of an environment, see `hash_of`."""
    return hash_of(task_ids, [content_hash(env, task_id) for task_id in task_ids])


def quoted_split(env: TextEnv, split: str | None) -> str:
    """Return the given split, else the one that the environment's results are quoted on: the last of its `splits`."""
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

    Every training task is hashed, at the cost of reading or generating it once. Raises `NoTasksError` if there is none.
    """
    tasks = dict(zip(panel.contents, panel.task_ids, strict=True))
    _assert_none_in(env, train_split, env.task_ids(train_split), panel.split, tasks)


def _compared(env: TextEnv, panel: Panel, train_split: str) -> Panel:
    """Return the panel with what it is held out of, or why that is not known."""
    try:
        assert_held_out(env, panel, train_split)
    except NoTasksError as error:
        problem = f"That the tasks are held out of '{train_split}' could not be checked: {error}"
        return replace(panel, held_out_of=None, unchecked=problem)
    return replace(panel, held_out_of=train_split)


def _no_tasks(env: TextEnv, split: str) -> NoTasksError:
    return NoTasksError(f"Split '{split}' of {type(env).__name__} has no tasks.")


def _assert_none_in(env: TextEnv, split: str, ids: Sequence[str], other: str, by_content: Mapping[str, str]) -> None:
    if not ids:
        raise _no_tasks(env, split)
    for task_id in ids:
        twin = by_content.get(content_hash(env, task_id))
        if twin is not None:
            raise DataError(
                f"Splits '{split}' and '{other}' overlap: task '{twin}' of '{other}' has the same content "
                f"as '{task_id}' of '{split}'."
            )


def lasting_options(env: TextEnv, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an environment that a result depends on: those that differ from the defaults of its class.

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


def checked_panel(env: TextEnv, panel: Panel) -> Panel:
    """Return a frozen panel, every task compared with the frozen one, and all with the training split, if it is there.

    Raises:
        DataError: a task is not there, has another content, or is a training task by content.
    """
    for task_id, content in zip(panel.task_ids, panel.contents, strict=True):
        try:
            found = content_hash(env, task_id)
        except DataError as error:
            raise DataError(f"The panel's task '{task_id}' is not in {panel.env_id}: {error}") from error
        if found != content:
            raise DataError(
                f"Task '{task_id}' of {panel.env_id} is not the one of the panel: its content has the hash "
                f"{found[:16]}, expected {content[:16]}. {_ADVICE}, or use the version that the panel was made with."
            )
    return panel if panel.held_out_of is None else _compared(env, panel, panel.held_out_of)


def panel_text(panel: Panel) -> str:
    """Return the panel as JSON, a line a task."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "env": panel.env_id,
        "options": dict(panel.options),
        "split": panel.split,
        "held_out_of": panel.held_out_of,
        "panel_hash": panel.panel_hash,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    tasks = [
        f"  {json.dumps({'id': task_id, 'content': content})}"
        for task_id, content in zip(panel.task_ids, panel.contents, strict=True)
    ]
    return "\n".join(["{", *lines, ' "tasks": [', ",\n".join(tasks), " ]", "}", ""])


def read_panel(path: Path) -> Panel:
    """Return the panel in a file. Raises `DataError` for a file that is missing, no panel, or changed by hand."""
    head = read_json(path, _HEAD, "panel")
    if head["format"] != FORMAT:
        raise DataError(f"'{path}' is no panel. Expected a file that `agentgym panel freeze` wrote.")
    if head["version"] != VERSION:
        raise DataError(f"'{path}' has version {head['version']!r}, expected {VERSION}. {_ADVICE}.")
    try:
        body = checked(_BODY, head)
    except ValueError as error:
        raise DataError(f"'{path}' is a damaged panel: {error}. {_ADVICE}.") from error
    ids = tuple(task["id"] for task in body["tasks"])
    contents = tuple(task["content"] for task in body["tasks"])
    if len(set(ids)) != len(ids):
        raise DataError(f"'{path}' is a damaged panel: a task is in it twice. {_ADVICE}.")
    if hash_of(ids, contents) != body["panel_hash"]:
        raise DataError(f"'{path}' is a damaged panel: its panel_hash is not that of its tasks. {_ADVICE}.")
    return Panel(body["env"], body["split"], ids, body["panel_hash"], contents, body["options"], body["held_out_of"])
