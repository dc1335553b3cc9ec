"""The directory of a run: its name, its files, and the lock that lets one process write to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import yaml

from agentgym_rft.config.base import Section
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError
from agentgym_rft.store.checkpoint import has_checkpoint
from agentgym_rft.store.files import file_name, lock, open_to_append, write_atomically


def run_directory(config: Config) -> Path:
    """Return the directory of a run: the given one, or a new one named after environment, algorithm and time.

    The path is absolute: an environment that changes the working directory does not move it.
    """
    if config.run.out:
        return Path(config.run.out).absolute()
    return default_directory(config.env.id.rpartition("/")[2].lower(), config.algorithm.name)


def default_directory(*names: str) -> Path:
    """Return a new directory named after these, of `module:name` the name, and the time."""
    known = [file_name(name.rpartition(":")[2]) for name in names]
    return Path("runs").absolute() / "-".join([*known, time.strftime("%Y%m%d-%H%M%S")])


def holds_run(folder: Path) -> bool:
    """Return True if a run left something in a directory: a finished step, a checkpoint or a model.

    One that was stopped before that can be started anew in the same place.
    """
    metrics = folder / "metrics.jsonl"
    has_steps = metrics.is_file() and metrics.stat().st_size > 0
    return has_steps or (folder / "model").exists() or has_checkpoint(folder / "checkpoints")


@contextmanager
def opened(folder: Path, config: Section, *, is_new: bool) -> Iterator[Path]:
    """Return the run directory, made if need be, with `config.yaml`, and locked while the run lives.

    A new run that is refused (`ConfigError`) before it left something leaves no `config.yaml` either.

    Raises:
        ConfigError: it cannot be written, is in use, or is new and holds another run already.
    """
    advice = " Choose another --out." if is_new else ""
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"'{folder}' is a file, expected a directory.{advice}")
        folder.mkdir(parents=True, exist_ok=True)
        file = open_to_append(folder / ".lock")
    except OSError as error:
        raise ConfigError(f"Cannot write to '{folder}': {error.strerror}.{advice}") from error
    with closing(file):
        _claim(folder, file, config, is_new)
        try:
            yield folder
        except ConfigError:
            if is_new and not holds_run(folder):
                (folder / "config.yaml").unlink(missing_ok=True)
            raise


def _claim(folder: Path, file: BinaryIO, config: Section, is_new: bool) -> None:
    """Lock the directory and write `config.yaml`."""
    try:
        lock(file)
    except BlockingIOError as error:
        raise ConfigError(f"Another process is writing to '{folder}'. Wait for it, or choose another --out.") from error
    if is_new and holds_run(folder):
        raise ConfigError(f"'{folder}' holds a run already. Go on with --resume {folder}, or choose another --out.")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    try:
        write_atomically(folder / "config.yaml", text.encode())
        if is_new:
            for left in (folder / "evaluations").glob("step_*.json"):  # by a start that finished no step
                left.unlink()
    except OSError as error:
        raise ConfigError(f"Cannot write to '{folder}': {error.strerror}.") from error
