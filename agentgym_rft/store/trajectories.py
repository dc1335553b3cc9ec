"""Trajectories on disk: one compressed file for each step, `step_000012.jsonl.zst`, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.errors import DataError
from agentgym_rft.store.files import write_atomically

SUFFIX = ".jsonl.zst"
_LEVEL = 3  # higher levels cost more time than the space is worth


class TrajectoryWriter:
    """Writes the trajectories of each step to a file of their own in a folder, which is made if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, step: int, trajectories: Iterable[Trajectory]) -> Path:
        """Write one step's file in one piece, over that of an earlier run of the step. Returns its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{step:06d}{SUFFIX}"
        write_trajectories(path, trajectories)
        return path


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a trajectory file in one piece. Raises `TypeError` for an `info` value that JSON cannot hold."""
    lines = [trajectory_line(t) + "\n" for t in trajectories]
    write_atomically(path, zstandard.ZstdCompressor(level=_LEVEL).compress("".join(lines).encode("ascii")))


def trajectory_line(trajectory: Trajectory) -> str:
    """Return a trajectory as one line of JSON. Raises `TypeError` for an `info` value that JSON cannot hold."""
    return json.dumps(_to_json(trajectory), separators=(",", ":"), default=_plain)


def trajectory_of_line(line: str) -> Trajectory:
    """Read a line of `trajectory_line`. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    return _from_json(json.loads(line))


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a file, or of all files of a folder in the order of their steps.

    All fields are as they were written; sequences of tokens are tuples, and tuples inside `info` are lists.

    Raises:
        DataError: the path is missing, or a file is damaged.
    """
    if path.is_dir():
        for file in sorted(path.glob(f"step_*{SUFFIX}")):
            yield from read_trajectories(file)
        return
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            yield trajectory_of_line(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"Line {number} of '{path}' is no trajectory: {error}.") from error


def group_bytes(group: Group) -> bytes:
    """Return a whole group, compressed: a line with its names, then a line a trajectory, auxiliary ones last.

    Raises `TypeError` for an `info` value that JSON cannot hold.
    """
    head = {"group_id": group.group_id, "task_id": group.task_id, "num_trajectories": len(group.trajectories)}
    lines = [json.dumps(head), *map(trajectory_line, (*group.trajectories, *group.auxiliary))]
    return zstandard.ZstdCompressor(level=_LEVEL).compress("\n".join(lines).encode("ascii"))


def group_of_bytes(content: bytes, where: str) -> Group:
    """Read the bytes of `group_bytes`. Raises `DataError`, which names `where`, for anything else."""
    try:
        first, *lines = _decompressed(content, where).split("\n")
        head = json.loads(first)
        trajectories = tuple(map(trajectory_of_line, lines))
        number = int(head["num_trajectories"])
        return Group(head["group_id"], head["task_id"], trajectories[:number], trajectories[number:])
    except (ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, DataError) else DataError(f"'{where}' is no stored group: {error}.") from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read trajectories from '{path}': {error.strerror}.") from error
    return _decompressed(content, str(path))


def _decompressed(content: bytes, path: str) -> str:
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        text = frame.decompress(content).decode("ascii")
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is no trajectory file: {error}.") from error
    if not frame.eof:
        raise DataError(f"'{path}' is cut off.")
    return text


def _to_json(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "task_id": trajectory.task_id,
        "group_id": trajectory.group_id,
        "episode_id": trajectory.episode_id,
        "agent_id": trajectory.agent_id,
        "stop_reason": trajectory.stop_reason.value,
        "parent_id": trajectory.parent_id,
        "fork_turn": trajectory.fork_turn,
        "rewards": dict(trajectory.rewards),
        "info": dict(trajectory.info),
        "turns": [_turn_to_json(turn) for turn in trajectory.turns],
    }


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "context_ids": list(turn.context_ids),
        "action_ids": list(turn.action_ids),
        "logprobs": list(turn.logprobs),
        "reward": turn.reward,
        "state_key": turn.state_key,
        "policy_version": turn.policy_version,
        "last_version": turn.last_version,
        "restart": turn.restart,
        "trainable": turn.trainable,
        "off_context": turn.off_context,
        "info": dict(turn.info),
    }


def _from_json(body: dict[str, Any]) -> Trajectory:
    turns = tuple(_turn_from_json(turn) for turn in body["turns"])
    return Trajectory(**body | {"stop_reason": StopReason(body["stop_reason"]), "turns": turns})


def _turn_from_json(body: dict[str, Any]) -> Turn:
    return Turn(**body | {key: tuple(body[key]) for key in ("context_ids", "action_ids", "logprobs")})


def _plain(value: Any) -> Any:
    """Return numpy numbers and arrays as JSON holds them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"A {type(value).__name__} cannot be stored in a trajectory: {value!r}")
