"""Trajectories on disk: one compressed file for each step, `step_000012.jsonl.zst`, a line each: checksum and JSON.

The file has a checksum of its own, too, so that no line can be lost. Lines of version 0.1 have none; they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from pydantic import TypeAdapter

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.errors import DataError
from agentgym_rft.json_text import checked_json, with_checksum, without_checksum
from agentgym_rft.store.files import write_atomically
from agentgym_rft.store.trajectory_types import StoredGroup, StoredTrajectory

SUFFIX = ".jsonl.zst"
_LEVEL = 3  # higher levels cost more time than the space is worth
_MAX_GROWTH = 1000  # times its size that a file may grow to, and 16 MiB in any case: ids in JSON grow by 3 to 50
_CHUNK = 1024  # bytes decompressed at a time; they grow to 32 MiB at most
_TRAJECTORY: TypeAdapter[Any] = TypeAdapter(StoredTrajectory)
_GROUP: TypeAdapter[StoredGroup] = TypeAdapter(StoredGroup)


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
    write_atomically(path, _compressed("".join(f"{trajectory_line(t)}\n" for t in trajectories)))


def trajectory_line(trajectory: Trajectory) -> str:
    """Return a trajectory as one line. Raises `TypeError` for an `info` value that JSON cannot hold."""
    return with_checksum(json.dumps(_to_json(trajectory), separators=(",", ":"), default=_plain))


def trajectory_of_line(line: str) -> Trajectory:
    """Read a line of `trajectory_line`. Raises `ValueError` for one that has changed, or is something else."""
    return _from_json(checked_json(_TRAJECTORY, line if line.startswith("{") else without_checksum(line)))


def read_trajectories(path: Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a file, or of all files of a folder in the order of their steps.

    All fields are as they were written; sequences of tokens are tuples, and tuples inside `info` are lists.

    Raises:
        DataError: the path is missing, or a file is damaged. That a line is lost is known after the last one.
    """
    if path.is_dir():
        for file in sorted(path.glob(f"step_*{SUFFIX}")):
            yield from read_trajectories(file)
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read trajectories from '{path}': {error.strerror}.") from error
    for number, line in enumerate(_lines(content, str(path)), start=1):
        try:
            yield trajectory_of_line(line)
        except ValueError as error:
            raise DataError(f"Line {number} of '{path}' is no trajectory: {error}.") from error


def group_bytes(group: Group) -> bytes:
    """Return a whole group, compressed: a line with its names, then a line a trajectory, auxiliary ones last.

    Raises `TypeError` for an `info` value that JSON cannot hold.
    """
    head = {"group_id": group.group_id, "task_id": group.task_id, "num_trajectories": len(group.trajectories)}
    lines = [json.dumps(head), *map(trajectory_line, (*group.trajectories, *group.auxiliary))]
    return _compressed("\n".join(lines))


def group_of_bytes(content: bytes, where: str) -> Group:
    """Read the bytes of `group_bytes`. Raises `DataError`, which names `where`, for anything else."""
    try:
        first, *lines = _lines(content, where)
        head = checked_json(_GROUP, first)
        trajectories = tuple(map(trajectory_of_line, lines))
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"'{where}' is no stored group: {error}.") from error
    number = head["num_trajectories"]
    return Group(head["group_id"], head["task_id"], trajectories[:number], trajectories[number:])


def _compressed(text: str) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(text.encode("ascii"))


def _lines(content: bytes, where: str) -> Iterator[str]:
    """Yield the lines of a compressed text as they are decompressed. Raises `DataError`."""
    open_line: list[bytes] = []
    try:
        for piece in _decompressed(content, where):
            head, mark, tail = piece.rpartition(b"\n")
            if mark:
                yield from b"".join((*open_line, head)).decode("ascii").split("\n")
                open_line.clear()
            open_line.append(tail)
        if last := b"".join(open_line).decode("ascii"):
            yield last
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise DataError(f"'{where}' is damaged, or no trajectory file: {error}.") from error


def _decompressed(content: bytes, where: str) -> Iterator[bytes]:
    """Yield a compressed text in bounded pieces. Raises `DataError` if it is cut off or longer, or grows too far."""
    frame = zstandard.ZstdDecompressor(max_window_size=2**23).decompressobj()
    left = max(_MAX_GROWTH * len(content), 2**24)
    for start in range(0, len(content), _CHUNK):
        piece = frame.decompress(content[start : start + _CHUNK])
        left -= len(piece)
        if left < 0:
            raise DataError(f"'{where}' grows to more than {_MAX_GROWTH} times its size: it is no trajectory file.")
        yield piece
        if frame.eof:
            break
    if not frame.eof:
        raise DataError(f"'{where}' is cut off.")
    if frame.unused_data or start + _CHUNK < len(content):
        raise DataError(f"'{where}' has changed since it was written: there is something behind its end.")


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


def _from_json(body: Mapping[str, Any]) -> Trajectory:
    turns = tuple(map(_turn_from_json, body["turns"]))
    return Trajectory(**{**body, "stop_reason": StopReason(body["stop_reason"]), "turns": turns})


def _turn_from_json(body: Mapping[str, Any]) -> Turn:
    ids, logprobs = tuple(body["action_ids"]), tuple(body["logprobs"])
    if len(ids) != len(logprobs):
        raise ValueError(f"a turn has {len(ids)} action ids and {len(logprobs)} log-probs")
    return Turn(**{**body, "context_ids": tuple(body["context_ids"]), "action_ids": ids, "logprobs": logprobs})


def _plain(value: Any) -> Any:
    """Return numpy numbers and arrays as JSON holds them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"A {type(value).__name__} cannot be stored in a trajectory: {value!r}")
