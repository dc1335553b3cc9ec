"""Game files: made by TextWorld's own generators, offline, and kept in a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

from agentgym_rft.envs.textworld.tasks import Task
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.json_text import parse_json

HASH_SEED = 0  # the generators depend on the order of sets
_SUMS = "sha256.json"
_FILES = ("game.json", "game.z8")
_SERIAL = slice(0x12, 0x18)  # of a story file: the date of its making, outside of what its checksum is taken of
_FIXED_SERIAL = b"000000"


def engine_version() -> str:
    """Return the version of textworld. Raises `ConfigError` if it is not installed; does not import it."""
    if importlib.util.find_spec("textworld") is None:
        raise ConfigError('TextWorld is not installed; install it with: pip install "agentgym-rft[textworld]".')
    return importlib.metadata.version("textworld")


def default_cache() -> Path:
    """Return `agentgym_rft/textworld` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentgym_rft" / "textworld"


def game_file(task: Task, cache: Path) -> Path:
    """Return the story file of a task, made now if the cache lacks it or holds a damaged one.

    Beside it lies the `game.json` that the engine reads, too. A folder is complete or absent: it is made elsewhere and
    moved, so that several processes may make the same game.

    Raises:
        DataError: the generator or the compiler does not take this task, or the cache cannot be written.
        ConfigError: sets are not ordered as they have to be in this process (`HASH_SEED`).
    """
    key = hashlib.sha256(task.content(engine_version())).hexdigest()
    folder = cache / f"{task.id}-{key[:16]}"
    if not _is_whole(folder):
        try:
            _make(task, folder)
        except OSError as error:
            raise DataError(f"The game '{task.id}' cannot be kept in {cache}: {error}.") from error
    return folder / "game.z8"


def _is_whole(folder: Path) -> bool:
    try:
        sums: dict[str, str] = parse_json((folder / _SUMS).read_text())
        return all(_sha256(folder / name) == sums[name] for name in _FILES)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _make(task: Task, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
        made = Path(work) / "made"
        made.mkdir()
        _generate(task, made)
        (made / _SUMS).write_text(json.dumps({name: _sha256(made / name) for name in _FILES}))
        if folder.exists() and not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was faster, with the same game
                raise


def _generate(task: Task, folder: Path) -> None:
    """Write `game.z8` and `game.json` of a task: the same bytes on every day and in every process."""
    if os.environ.get("PYTHONHASHSEED") != str(HASH_SEED):
        raise ConfigError(f"Games are made in processes with PYTHONHASHSEED={HASH_SEED}; use TextWorldEnv.")
    import textworld
    from textworld.challenges import CHALLENGES
    from textworld.generator import compile_game

    textworld.g_rng.set_seed(task.seed)
    options = textworld.GameOptions()
    options.seeds = task.seed
    options.path = str(folder / "game.z8")
    try:
        game = CHALLENGES[f"tw-{task.family}"][1](task.settings(), options)
        compile_game(game, options)
    except Exception as error:  # the generators raise anything, down to KeyError, for what they cannot build
        raise DataError(f"TextWorld cannot make the game '{task.id}': {type(error).__name__}: {error}.") from error
    (folder / "game.ni").unlink(missing_ok=True)  # the source, which is not needed any more
    story = bytearray((folder / "game.z8").read_bytes())
    story[_SERIAL] = _FIXED_SERIAL
    (folder / "game.z8").write_bytes(story)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
