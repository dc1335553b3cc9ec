"""Shared by environments with a list of tasks: checks of splits, drawn tasks, reading of snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from agentgym_rft.errors import DataError, EnvError


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raises `DataError` for a name that is no split."""
    if split not in splits:
        raise DataError(f"There is no split '{split}'; expected one of {', '.join(splits)}.")


def drawn_task(task_ids: Sequence[str], rng: np.random.Generator) -> str:
    """One of the tasks, each as likely."""
    return task_ids[int(rng.integers(len(task_ids)))]


def chosen_task(options: Mapping[str, Any] | None, draw: Callable[[], str]) -> str:
    """`options["task_id"]`, else a drawn one. Raises `EnvError` for an id that is no text."""
    task_id = (options or {}).get("task_id")
    if task_id is None:
        return draw()
    if not isinstance(task_id, str):
        raise EnvError(f"A task_id is text, not a {type(task_id).__name__}.")
    return task_id


def read_snapshot(snapshot: bytes, kind: str, keys: AbstractSet[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a snapshot. Raises `EnvError` if it is damaged, of another kind or of other options."""
    try:
        saved = json.loads(snapshot)
    except ValueError as error:
        raise EnvError("The snapshot is damaged; take a new one.") from error
    if not isinstance(saved, dict) or saved.keys() != keys or saved["env"] != kind:
        raise EnvError(f"The snapshot is not one of {kind}; restore it in the kind of environment that made it.")
    if saved["options"] != options:
        raise EnvError(f"The snapshot is of options {saved['options']}, this environment has {options}.")
    return saved
