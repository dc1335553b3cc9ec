"""A light switch that does, in every third task, what no environment should."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from tests.light_switch import LightSwitch

MADE_IN_VAIN = 5  # the number of the one that cannot be made


class Mute(Exception):
    """Cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OfTwo(Exception):
    """Pickle cannot make it again, because it is made of two values."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"{name} in {place}")


def raised(problem: BaseException) -> NoReturn:
    raise problem


RAISE: dict[str, Callable[[], object]] = {
    "sys.exit(0)": lambda: sys.exit(0),
    "CancelledError": lambda: raised(asyncio.CancelledError()),
    "GeneratorExit": lambda: raised(GeneratorExit()),
    "an error that cannot be shown": lambda: raised(Mute()),
    "an error of two values": lambda: raised(OfTwo("a screw", "the switch")),
}
STEPS: dict[str, Callable[[], object]] = RAISE | {
    "an event loop of its own": lambda: asyncio.run(asyncio.sleep(0)),
    "the current event loop": lambda: current_loop().run_until_complete(asyncio.sleep(0)),
    "another working directory": lambda: os.chdir("/"),
}
INFOS: dict[str, dict[Any, Any]] = {
    "won as an array": {"won": np.array([1, 0])},
    "won as a numpy scalar": {"won": np.bool_(False)},
    "won as a word": {"won": "no"},
    "measures without a number": {"measures": {"a": None}},
    "measures without names": {"measures": {1: 1.0}},
    "measures that are not finite": {"measures": {"a": float("inf")}},
    "a task type that is no text": {"task_type": Mute()},
    "a state key that is no text": {"state_key": Mute()},
    "a lock in the info": {"extra": threading.Lock()},
    "keys that are no text": {1: 2, None: Mute()},
}
CLOSES: dict[str, Callable[[], object]] = {
    "a close that fails": lambda: raised(RuntimeError("the door is stuck")),
    "a close that exits": lambda: sys.exit(0),
    "a close that ends the process": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def current_loop() -> asyncio.AbstractEventLoop:
    """Return the current event loop, which is made the first time, as many libraries do it."""
    try:
        return asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


class Hostile(LightSwitch):
    """`deed` is done in the steps of every third task, while it is made, or when it is closed after use."""

    num_made = 0

    def __init__(self, deed: str = "") -> None:
        super().__init__()
        self._deed, self._is_used = deed, False
        Hostile.num_made += 1
        if deed == "a constructor that fails once" and Hostile.num_made == MADE_IN_VAIN:
            raise OfTwo("no screw", "the shop")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._is_used = True
        observation, reward, terminated, truncated, info = super().step(action)
        if self._task % 3 == 0:
            info = {**info, **self._do()}
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        if self._is_used:
            CLOSES.get(self._deed, lambda: None)()

    def _do(self) -> dict[Any, Any]:
        if self._deed == "every error in turn":
            list(RAISE.values())[self._task // 3 % len(RAISE)]()
        STEPS.get(self._deed, lambda: None)()
        return INFOS.get(self._deed, {})
