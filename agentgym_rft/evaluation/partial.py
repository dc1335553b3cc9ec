"""The finished episodes of an evaluation that is under way, so that it can go on after whatever stopped it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from agentgym_rft.core import Trajectory
from agentgym_rft.errors import ConfigError, DataError, StorageError
from agentgym_rft.json_text import checked, checked_json, with_checksum, without_checksum
from agentgym_rft.store.files import lock, open_to_append
from agentgym_rft.store.trajectories import trajectory_line, trajectory_of_line

FORMAT = "agentgym-partial-evaluation"
VERSION = 2
_HEAD: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def partial_path(out: Path) -> Path:
    """Return where the finished episodes of an evaluation that writes to `out` are kept."""
    return out.with_name(f"{out.name}.partial.jsonl")


class PartialEvaluation:
    """A file whose first line has the settings of the evaluation, every other a checksum, seconds and a trajectory.

    A line is there as a whole once its episode has ended; one that a crash cut off is dropped. The file is locked while
    it is open.

    Args:
        path: made if missing, else gone on with.
        settings: all that the episodes depend on, as JSON holds it.
    Raises:
        ConfigError: the file is of an evaluation with other settings, or in use.
        DataError: it cannot be written, or is something else.
        StorageError: the disk is full.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path.absolute()
        self.finished: dict[str, Trajectory] = {}  # by episode id
        self.elapsed_s = 0.0
        try:
            self._file: BinaryIO = open_to_append(path)
        except OSError as error:
            raise DataError(f"Cannot write '{path}': {error.strerror}. Choose another --out.") from error
        try:
            self._begin(settings)
        except (ConfigError, DataError, StorageError):
            self.close()
            raise

    def append(self, trajectory: Trajectory, elapsed_s: float) -> None:
        """Add an episode that ended `elapsed_s` seconds after the start, earlier parts of the evaluation included.

        Raises StorageError.
        """
        self.finished[trajectory.episode_id] = trajectory
        self._write(with_checksum(f"{elapsed_s:.3f} {trajectory_line(trajectory)}"))

    def close(self) -> None:
        """Unlock the file and leave it, to be gone on with."""
        with suppress(OSError):  # a line that could not be written: that was said, and would be said again here
            self._file.close()

    def remove(self) -> None:
        """Remove the file: the evaluation is over, or nothing of it can be used."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _begin(self, settings: Mapping[str, Any]) -> None:
        try:
            lock(self._file)
        except BlockingIOError as error:
            raise ConfigError(
                f"Another evaluation is writing to '{self.path}'. Wait for it, or choose another --out."
            ) from error
        self._file.seek(0)
        content = self._file.read()
        whole, _, _ = content.rpartition(b"\n")
        if not whole:
            self._file.truncate(0)
            head = {"format": FORMAT, "version": VERSION, "settings": dict(settings)}
            self._write(json.dumps(head, sort_keys=True))
            return
        self._file.truncate(len(whole) + 1)
        head_line, *lines = whole.decode("utf-8", errors="replace").split("\n")
        self._check(head_line, json.loads(json.dumps(dict(settings))))
        for number, line in enumerate(lines, start=2):
            self._read(number, line)

    def _check(self, line: str, settings: Mapping[str, Any]) -> None:
        try:
            head = checked_json(_HEAD, line)
            before = checked(_HEAD, head.get("settings"))
        except ValueError:
            head, before = {}, {}
        if (head.get("format"), head.get("version")) != (FORMAT, VERSION):
            raise DataError(
                f"'{self.path}' is no evaluation under way of this version. Remove it, or choose another --out."
            )
        for key in sorted(settings.keys() | before.keys()):
            if before.get(key) != settings.get(key):
                raise ConfigError(
                    f"'{self.path}' holds an evaluation under way with {key} = {before.get(key)!r}, now it is "
                    f"{settings.get(key)!r}. Finish that one with its own options, remove the file, or choose another "
                    "--out."
                )

    def _read(self, number: int, line: str) -> None:
        try:
            elapsed, _, body = without_checksum(line).partition(" ")
            trajectory = trajectory_of_line(body)
            self.elapsed_s = float(elapsed)
        except ValueError as error:
            raise DataError(
                f"Line {number} of '{self.path}' is damaged: {error}. Remove the file to evaluate from the start."
            ) from error
        self.finished[trajectory.episode_id] = trajectory

    def _write(self, line: str) -> None:
        try:
            self._file.write(line.encode("ascii") + b"\n")
            self._file.flush()  # from here on it outlives the process
        except OSError as error:
            raise StorageError(
                f"Cannot write '{self.path}': {error.strerror}. The finished episodes before are kept: make room, and "
                "the same command goes on."
            ) from error
