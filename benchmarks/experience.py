"""How fast the experience store and the trajectory files are: groups written, taken and read back, and their size.

python benchmarks/experience.py [--groups 10000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.store.trajectories import SUFFIX, read_trajectories, write_trajectories

MEMBERS, TURNS, CONTEXT, ACTION = 8, 12, 60, 10


def made_up(number: int, rng: np.random.Generator) -> Group:
    """A group of the size of household episodes: 8 trajectories of 12 turns, 60 tokens read and 10 sampled in each."""

    def turn() -> Turn:
        context, action = (tuple(rng.integers(0, 1024, size).tolist()) for size in (CONTEXT, ACTION))
        return Turn(context, action, tuple(rng.normal(-1, 1, ACTION).tolist()), policy_version=number // 8)

    def member(name: int) -> Trajectory:
        won = bool(rng.integers(2))
        stop = StopReason.SUCCESS if won else StopReason.FAILURE
        turns = tuple(turn() for _ in range(TURNS))
        return Trajectory(f"t{number}", f"g{number}", f"g{number}/{name}", turns, stop, rewards={"env": float(won)})

    return Group(f"g{number}", f"t{number}", tuple(map(member, range(MEMBERS))))


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    num_groups = parser.parse_args().groups
    rng = np.random.default_rng(0)
    groups = [made_up(number, rng) for number in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        store = ExperienceStore(path, "words")

        def write() -> None:
            for number in range(num_groups):
                like = groups[number % len(groups)]
                store.write(Group(f"n{number}", like.task_id, like.trajectories), step=number // 8)

        wrote = seconds(write)
        reader = ExperienceStore(path)
        print(describe())
        print(f"groups of {MEMBERS} trajectories x {TURNS} turns x {CONTEXT + ACTION} tokens: {num_groups}")
        size = path.stat().st_size / num_groups / 1024
        print(f"written: {num_groups / wrote:,.0f} groups/s, each synced; {size:.1f} KiB each")
        for rule in ("fifo", "uniform", "priority"):
            took = seconds(
                lambda rule=rule: [store.take(step, 8, rule, max_uses=None) for step in range(10_000, 10_020)]
            )
            store.forget_uses(9_999)
            print(f"take of 8 groups by {rule}: {1000 * took / 20:.1f} ms")
        print(f"opened, all rows checked: {1000 * seconds(lambda: ExperienceStore(path)):.1f} ms")
        print(f"read back: {200 / seconds(lambda: reader.groups(reader.keys[:200])):,.0f} groups/s")
        print(f"accounting: {1000 * seconds(reader.accounting):.1f} ms")
        trajectories = [member for group in groups for member in group.trajectories]
        file = Path(folder) / f"step_000001{SUFFIX}"
        wrote = seconds(lambda: write_trajectories(file, trajectories))
        read = seconds(lambda: list(read_trajectories(file)))
        print(f"trajectory file: {len(groups) / wrote:,.0f} groups/s written, {len(groups) / read:,.0f} read")


if __name__ == "__main__":
    main()
