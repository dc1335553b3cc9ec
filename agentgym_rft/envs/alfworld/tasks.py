"""Sources of household games: the official data folder, or the generator."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentgym_rft.envs.alfworld.compiled import CompiledGame
from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.game import Game
from agentgym_rft.envs.alfworld.pddl import game_document, parse_game, read_document
from agentgym_rft.envs.base import SPLITS
from agentgym_rft.envs.task_selection import check_split
from agentgym_rft.errors import DataError, NoTasksError, UnsupportedGameError

LAYOUT = "json_2.1.1"
_GAME_FILE = "game.tw-pddl"
_SOLVABLE = re.compile(rb'[{,]\s*"solvable"\s*:\s*(true|false)')
_EDGE = 4096  # bytes at the two ends of a file; `solvable` is usually there


class TaskSource(Protocol):
    """A set of games. Sources that compare equal hold the same games."""

    def task_ids(self, split: str) -> tuple[str, ...]:
        """Return task ids of a split in their frozen order, of which any first part is a fair sample."""
        ...

    def game(self, task_id: str) -> Game:
        """Return the game. Raises `DataError` if there is none, `UnsupportedGameError` if only the real engine plays
        it.
        """
        ...

    def document(self, task_id: str) -> Mapping[str, Any]:
        """Return the game as the content of a `game.tw-pddl` file."""
        ...

    def content(self, task_id: str) -> bytes:
        """Return canonical content of the game."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class GeneratedTasks:
    """Games made by the generator; nothing is read or downloaded."""

    def task_ids(self, split: str) -> tuple[str, ...]:
        from agentgym_rft.envs.alfworld.generate import generated_task_ids

        check_split(split, SPLITS)
        return generated_task_ids(split)

    def game(self, task_id: str) -> Game:
        from agentgym_rft.envs.alfworld.generate import generate_game

        return generate_game(task_id)

    def document(self, task_id: str) -> Mapping[str, Any]:
        return game_document(self.game(task_id))

    def content(self, task_id: str) -> bytes:
        return self.game(task_id).content()


@dataclass(frozen=True, slots=True)
class OfficialTasks:
    """Games in ALFWorld's layout, `ROOT/<split>/<task>/<trial>/game.tw-pddl`; the id is `<split>/<task>/<trial>`.

    As in alfworld's own loader, games that are not marked solvable and those of tasks with a movable receptacle or a
    sliced object are left out. The order is that of the SHA-256 of the ids, so it is the same on every machine.
    The listing is read once for each process.
    """

    root: Path

    def task_ids(self, split: str) -> tuple[str, ...]:
        check_split(split, SPLITS)
        return _official_ids(self.root, split)

    def game(self, task_id: str) -> Game:
        path = self._path(task_id)
        return parse_game(_read(path), str(path))

    def document(self, task_id: str) -> Mapping[str, Any]:
        path = self._path(task_id)
        return read_document(_read(path), str(path))

    def content(self, task_id: str) -> bytes:
        try:
            return self.game(task_id).content()
        except UnsupportedGameError:
            document = self.document(task_id)
            texts = {key: document[key] for key in ("pddl_domain", "grammar", "pddl_problem")}
            return json.dumps(texts, sort_keys=True).encode()

    def _path(self, task_id: str) -> Path:
        parts = task_id.split("/")
        path = self.root.joinpath(*parts, _GAME_FILE)
        if len(parts) != 3 or parts[0] not in SPLITS or ".." in parts or not path.is_file():
            raise DataError(
                f"There is no task '{task_id}' in {self.root}; expected <split>/<task>/<trial> of a game there."
            )
        return path


def task_source(data: str | os.PathLike[str] | None) -> TaskSource:
    """Return the games of `data`, else of the folder that ALFWORLD_DATA names, else of the generator.

    Raises `DataError` if the folder is not in ALFWorld's layout.
    """
    folder = data if data is not None else os.environ.get("ALFWORLD_DATA")
    if not folder:
        return GeneratedTasks()
    given = Path(folder).expanduser()
    for root in (given / LAYOUT, given):
        if any((root / split).is_dir() for split in SPLITS):
            return OfficialTasks(root.resolve())
    raise DataError(
        f"No ALFWorld games in '{given}': expected {LAYOUT}/{{{','.join(SPLITS)}}} in it. "
        "Give the folder that `alfworld-download` filled, or leave out data and ALFWORLD_DATA for generated games."
    )


@functools.lru_cache(maxsize=512)
def compiled(source: TaskSource, task_id: str) -> CompiledGame:
    """Return the compiled game of a task, shared by all environments that play it (about 75 kB a game)."""
    return compile_game(source.game(task_id))


@functools.lru_cache(maxsize=16)
def _official_ids(root: Path, split: str) -> tuple[str, ...]:
    found = []
    for path in (root / split).glob(f"*/*/{_GAME_FILE}"):
        task, trial = path.parts[-3:-1]
        if "movable" not in task and "Sliced" not in task and _is_solvable(path):
            found.append(f"{split}/{task}/{trial}")
    if not found:
        expected = f"<task>/<trial>/{_GAME_FILE} marked solvable"
        raise NoTasksError(f"No playable games in '{root / split}': expected {expected}.")
    return tuple(sorted(found, key=lambda task_id: hashlib.sha256(task_id.encode()).digest()))


def _is_solvable(path: Path) -> bool:
    """Return True if the file says so. Looks at its two ends first, because a split has hundreds of megabytes.

    Raises `DataError` for a file that is not whole, which would otherwise be left out without a word.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_EDGE)
            file.seek(max(0, path.stat().st_size - _EDGE))
            tail = file.read()
        if not tail.rstrip().endswith(b"}"):
            raise DataError(f"{path} is cut off; copy the game file again.")
        match = _SOLVABLE.search(tail) or _SOLVABLE.search(head)
        match = match or _SOLVABLE.search(path.read_bytes())
    except OSError as error:
        raise DataError(f"Cannot read {path} ({error.strerror}); check its permissions.") from error
    return match is not None and match[1] == b"true"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path} ({error}); copy the game file again.") from error
