"""The light switch with tasks that take their whole process down, hang, or break."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.light_switch import LightSwitch

DEADLY, HANGING, BREAKING = 900, 901, 902


class FaultySwitch(LightSwitch):
    """Every other task is as in the light switch."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._task == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._task == HANGING:
            threading.Event().wait()
        if self._task == BREAKING:
            raise ZeroDivisionError("the switch broke")
        return super().step(action)


class NotThere(ModuleNotFoundError):
    """Pickle cannot make it again, because it is made of two values."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"No module named '{name}' {place}")


class Unbuildable(LightSwitch):
    """An environment whose package is missing on the workers, but not where the driver runs."""

    def __init__(self) -> None:
        super().__init__()
        if "RAY_JOB_ID" in os.environ or "ray::" in Path("/proc/self/cmdline").read_text():
            raise NotThere("switches", "there")
