"""Environments for tests of worker processes; they are imported there, so nothing here imports torch."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.envs.breaking_env import BreakingEnv

CHUNK = 8 * 2**20  # bytes that a leaking environment keeps of every episode
_LEAKED: list[bytearray] = []


def resident_bytes() -> int:
    """The memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Leaking(BreakingEnv):
    """Its process grows with every episode."""

    def reset(self, *, seed=None, options=None):
        _LEAKED.append(bytearray(os.urandom(1)) * CHUNK)
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | {"pid": os.getpid(), "num_leaked": len(_LEAKED), "resident": resident_bytes()}


class Meeting(BreakingEnv):
    """A step ends when `size` environments are in one: alone, it never does."""

    def __init__(self, folder, size):
        super().__init__()
        self.folder, self.size = Path(folder), size

    def step(self, action):
        (self.folder / str(os.getpid())).touch()
        give_up = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < self.size:
            if time.monotonic() > give_up:
                raise RuntimeError("nobody else came")
        return super().step(action)
