"""Writes generated games in ALFWorld's official layout, so that other people's tools can play them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.alfworld.generate import Task, find_task, generate_game, generated_task_ids
from agentgym_rft.envs.alfworld.pddl import game_document
from agentgym_rft.envs.alfworld.tasks import LAYOUT
from agentgym_rft.errors import DataError


def export_games(out: Path, split: str, limit: int | None = None) -> list[Path]:
    """Write the first games of a split's panel and return their folders.

    Gives `out/json_2.1.1/<split>/<task>/<trial>/{game.tw-pddl,traj_data.json}`; ALFWORLD_DATA=out makes tools read it.

    Args:
        out: folder, made if missing.
        split: `train`, `valid_seen` or `valid_unseen`.
        limit: number of games; all of them without it.
    Raises:
        DataError: the split is unknown, the limit is negative, or a file cannot be written.
    """
    if limit is not None and limit < 0:
        raise DataError(f"limit is {limit}; expected a number of games, or none for all.")
    folders: list[Path] = []
    for task_id in generated_task_ids(split)[:limit]:
        task = find_task(task_id)
        folder = out / LAYOUT / split / _task_folder(task) / f"trial_{task.index:04d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "game.tw-pddl").write_text(json.dumps(game_document(generate_game(task_id))), encoding="utf-8")
            (folder / "traj_data.json").write_text(json.dumps(_trajectory_data(task)), encoding="utf-8")
        except OSError as error:
            raise DataError(f"Cannot write {folder} ({error.strerror}); choose another folder.") from error
        folders.append(folder)
    return folders


def _task_folder(task: Task) -> str:
    """Return the official folder name, which tools read the goal from."""
    goal = task.goal
    return f"{goal.task_type.value}-{goal.object_type}-None-{goal.target_type}-{task.scene}"


def _trajectory_data(task: Task) -> dict[str, Any]:
    """Return the parts of ALFRED's `traj_data.json` that alfworld's loader and its handcoded expert read."""
    goal = task.goal
    is_light = goal.task_type is TaskType.LIGHT
    return {
        "task_type": goal.task_type.value,
        "task_id": f"trial_{task.index:04d}",
        "pddl_params": {
            "object_target": goal.object_type,
            "parent_target": "" if is_light else goal.target_type,
            "mrecep_target": "",
            "toggle_target": goal.target_type if is_light else "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{task.scene}", "scene_num": task.scene},
    }
