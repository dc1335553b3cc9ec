"""Light switches that keep a run from ending: they hang, leave threads and forks behind, and send signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.light_switch import LightSwitch
from tests.team_switch import TeamSwitch

MARK = "done once"  # a file in the working directory, which says so


def hang() -> None:
    """Wait for ever."""
    threading.Event().wait()


def hold() -> None:
    """Hold the interpreter's lock for hours, beside a process that was started."""
    subprocess.Popen(["sleep", "600"])
    Path(MARK).write_text(f"{os.getpid()}")
    sum(range(10**13))


def leave_thread() -> None:
    """Start a thread that has no end."""
    threading.Thread(target=hang, name="uploader").start()


def leave_fork() -> None:
    """Leave a fork behind that waits."""
    child = os.fork()
    if child == 0:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        signal.alarm(60)
        hang()
    Path(MARK).write_text(f"{child}")


def fork_and_exit() -> None:
    """Fork as many do."""
    if os.fork() == 0:
        sys.exit()


def send_sigterm() -> None:
    """Do what a scheduler does that takes the machine back."""
    Path(MARK).touch()
    os.kill(os.getpid(), signal.SIGTERM)


STEPS = {
    "hold": hold,
    "leave a thread": leave_thread,
    "leave a fork": leave_fork,
    "fork and exit": fork_and_exit,
    "sigterm": send_sigterm,
}


class Stubborn(LightSwitch):
    """Does `deed` once, in a step of the second task that it plays, or hangs when it is closed."""

    def __init__(self, deed: str) -> None:
        super().__init__()
        self._deed = deed

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._deed in STEPS and self._task % 30 > 0 and not Path(MARK).exists():
            Path(MARK).touch()
            STEPS[self._deed]()
        return super().step(action)

    def close(self) -> None:
        if self._deed == "hang in close":
            hang()


class StubbornTeam(TeamSwitch):
    """Gets SIGTERM in its first step."""

    def step(self, action: str | None) -> None:
        send_sigterm()
        super().step(action)
