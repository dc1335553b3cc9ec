"""Processes of one run as torchrun starts them, forked from a server that has imported everything once."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentgym_rft.cli.main import run

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.trainers.learner.parallel_worker", "agentgym_rft.trainers.loop", "peft"])
DEADLINE_S = 240


class Started:
    """Processes that run, and what they write."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._logs = [folder / f"process-{rank}.log" for rank in range(size)]
        port = _free_port()
        self.processes = [
            _CONTEXT.Process(target=_child, args=(function, args, rank, size, port, str(self._logs[rank])), daemon=True)
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def codes(self) -> list[int | None]:
        """Exit codes, once all have ended; those that have not by the deadline are killed, and have none."""
        end = time.monotonic() + DEADLINE_S
        for process in self.processes:
            process.join(max(0.1, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()
                process.join()

    def log(self, rank: int) -> str:
        return self._logs[rank].read_text()


def together(function: Callable[..., Any], args: Sequence[Any], folder: Path, size: int = 2) -> Started:
    """Call a function in each of `size` processes; what it returns is the exit code."""
    return Started(function, args, folder, size)


def agentgym(words: Sequence[str], folder: Path, size: int = 2) -> Started:
    """The command line in each of `size` processes."""
    return together(run, (list(words),), folder, size)


def run_within(limit: int, words: Sequence[str]) -> int:
    """The command line, where no file can grow beyond `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return run(words)


def _child(function: Callable[..., Any], args: Sequence[Any], rank: int, size: int, port: int, log: str) -> None:
    if size > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(function(*args))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
