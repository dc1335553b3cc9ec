"""Panels as files, so that a result can be repeated on exactly its tasks, or refused where they have changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.panels import Panel, assert_held_out, content_hash, hash_of, lasting_options, load_panel
from agentgym_rft.errors import DataError

FORMAT = "agentgym-panel"
VERSION = 1
_ADVICE = "Freeze a new panel with `agentgym panel freeze`"


@dataclass(frozen=True, slots=True)
class FrozenPanel:
    """A panel with what makes its environment again: what a panel file holds.

    `options` are those that matter (see `lasting_options`); `held_out_of` is the split whose tasks it does not share,
    None where the panel is of the training split itself.
    """

    panel: Panel
    options: Mapping[str, Any]
    held_out_of: str | None


def freeze_panel(
    env: TextEnv, options: Mapping[str, Any], split: str, num_tasks: int | None, *, env_id: str
) -> FrozenPanel:
    """The panel of a split, checked to share no content with the training split, the first of `env.splits`.

    Args:
        options: what `env` was made with.
        num_tasks: only the first tasks of the split.
    Raises:
        DataError: the split is unknown or empty, or shares a task with the training split.
    """
    panel = load_panel(env, split, num_tasks, env_id=env_id)
    train = env.splits[0]
    if split != train:
        assert_held_out(env, panel, train)
    return FrozenPanel(panel, lasting_options(env, options), None if split == train else train)


def check_panel(env: TextEnv, frozen: FrozenPanel) -> None:
    """Compare every task with the frozen one, and the panel with the training split.

    Raises:
        DataError: a task is not there, has another content, or is a training task by content.
    """
    panel = frozen.panel
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
    if frozen.held_out_of is not None:
        assert_held_out(env, panel, frozen.held_out_of)


def panel_text(frozen: FrozenPanel) -> str:
    """The panel as JSON, a line a task."""
    panel = frozen.panel
    head = {
        "format": FORMAT,
        "version": VERSION,
        "env": panel.env_id,
        "options": dict(frozen.options),
        "split": panel.split,
        "held_out_of": frozen.held_out_of,
        "panel_hash": panel.panel_hash,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    tasks = [
        f"  {json.dumps({'id': task_id, 'content': content})}"
        for task_id, content in zip(panel.task_ids, panel.contents, strict=True)
    ]
    return "\n".join(["{", *lines, ' "tasks": [', ",\n".join(tasks), " ]", "}", ""])


def read_panel(path: Path) -> FrozenPanel:
    """The panel in a file. Raises `DataError` for a file that is missing, no panel, or changed by hand."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read the panel '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"'{path}' is no panel: {error}.") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise DataError(f"'{path}' is no panel. Expected a file that `agentgym panel freeze` wrote.")
    if body.get("version") != VERSION:
        raise DataError(f"'{path}' has version {body.get('version')!r}, expected {VERSION}. {_ADVICE}.")
    try:
        return _checked(path, body)
    except (KeyError, TypeError) as error:
        raise DataError(f"'{path}' is a damaged panel: {type(error).__name__} {error}. {_ADVICE}.") from error


def _checked(path: Path, body: Mapping[str, Any]) -> FrozenPanel:
    ids = tuple(str(task["id"]) for task in body["tasks"])
    contents = tuple(str(task["content"]) for task in body["tasks"])
    if not ids or len(set(ids)) != len(ids):
        raise DataError(f"'{path}' is a damaged panel: expected at least one task, and none twice. {_ADVICE}.")
    if hash_of(ids, contents) != body["panel_hash"]:
        raise DataError(f"'{path}' is a damaged panel: its panel_hash is not that of its tasks. {_ADVICE}.")
    train = body["held_out_of"]
    panel = Panel(str(body["env"]), str(body["split"]), ids, body["panel_hash"], contents)
    return FrozenPanel(panel, dict(body["options"]), None if train is None else str(train))
