"""The environment of `chaos.py`: the light switch of the tests, broken for real at known episodes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.light_switch import LightSwitch

FAULTS = ("none", "raise", "nan", "hang", "kill")


class Faulty(LightSwitch):
    """One episode in `one_in`, chosen by its reset seed, breaks after its first action.

    `raise`: an exception; `nan`: a reward that is none; `hang`: a step that never returns; `kill`: the process that it
    runs in is killed with -9. Each chosen episode breaks once: what was injected is a file in `log`, named after task
    and seed, so that counts can be compared with what a run says of itself.
    """

    def __init__(self, fault: str = "none", one_in: int = 10, log: str = "") -> None:
        super().__init__()
        self._kind, self._one_in, self._log = fault, one_in, log
        self._seed = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._seed = seed or 0
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._kind != "none" and self._seed % self._one_in == 0 and self._is_first():
            if self._kind == "raise":
                raise RuntimeError("the switch broke")
            if self._kind == "hang":
                threading.Event().wait()
            if self._kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            observation, _, terminated, truncated, info = super().step(action)
            return observation, float("nan"), terminated, truncated, info
        return super().step(action)

    def _is_first(self) -> bool:
        try:
            (Path(self._log) / f"{self._task}-{self._seed}").open("x").close()
        except FileExistsError:
            return False
        return True
