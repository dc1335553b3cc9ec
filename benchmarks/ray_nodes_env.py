"""The environment of `ray_nodes.py`: the light switch of the tests, with steps that take a while."""

from __future__ import annotations

import time
from typing import Any

from tests.light_switch import LightSwitch

STEP_S = 0.02


class SlowSwitch(LightSwitch):
    """Slow enough that a node goes down while it plays."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        time.sleep(STEP_S)
        return super().step(action)
