"""A light switch that does, in every third task, what no environment should."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import numpy as np

from tests.light_switch import LightSwitch


class Mute(Exception):
    """Cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Hostile(LightSwitch):
    """`deed` is done in the steps of every third task, or when it is closed."""

    def __init__(self, deed: str = "") -> None:
        super().__init__()
        self._deed = deed

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self._task % 3 == 0:
            info = {**info, **self._do()}
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        if self._deed == "a close that fails":
            raise RuntimeError("the door is stuck")

    def _do(self) -> dict[str, Any]:
        deed = self._deed
        if deed == "sys.exit(0)":
            sys.exit(0)
        if deed == "CancelledError":
            raise asyncio.CancelledError
        if deed == "GeneratorExit":
            raise GeneratorExit
        if deed == "an error that cannot be shown":
            raise Mute
        if deed == "an event loop of its own":
            asyncio.run(asyncio.sleep(0))
        if deed == "another working directory":
            os.chdir("/")
        answers: dict[str, dict[str, Any]] = {
            "won as an array": {"won": np.array([1, 0])},
            "won as a numpy scalar": {"won": np.bool_(False)},
            "measures without a number": {"measures": {"a": None}},
            "a task type that is no text": {"task_type": Mute()},
        }
        return answers.get(deed, {})
