"""Speed and size of the ScienceWorld plug-in.

    pip install ./envs/scienceworld
    python benchmarks/scienceworld_speed.py [--episodes 10] [--gold 30]

Plays a fixed action log through `ScienceWorldEnv`, process and JVM included, with and without listing valid actions;
then the simulator's gold paths through the first train tasks, one of each kind.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from agentgym_rft_scienceworld.env import ScienceWorldEnv
from machine import describe

ACTIONS = (
    "look around",
    "open door to kitchen",
    "go to kitchen",
    "open cupboard",
    "pick up thermometer",
    "inventory",
    "activate stove",
    "wait1",
)


def resident_mib(group: int) -> float:
    """Resident memory of a process group, in MiB."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        if int(fields[2]) == group:
            pages += int(fields[21])
    return pages * 4096 / 2**20


def speed(admissible: bool, num_episodes: int) -> str:
    env = ScienceWorldEnv(admissible=admissible)
    began = time.perf_counter()
    env.reset(options={"task_id": "boil/3"})
    started = time.perf_counter() - began
    reset_s = step_s = 0.0
    for number in range(num_episodes):
        began = time.perf_counter()
        env.reset(options={"task_id": f"boil/{number % 14}"})
        reset_s += time.perf_counter() - began
        began = time.perf_counter()
        for action in ACTIONS:
            env.step(action)
        step_s += time.perf_counter() - began
    size = resident_mib(env.pid or 0)
    env.close()
    steps = num_episodes * len(ACTIONS)
    cells = (f"{started:.1f} s", f"{reset_s / num_episodes:.2f} s", f"{steps / step_s:.0f}", f"{size:.0f} MiB")
    return f"| {'yes' if admissible else 'no'} | {' | '.join(cells)} |"


def gold(num_tasks: int) -> str:
    env = ScienceWorldEnv(max_steps=200)
    tasks, won, slowest = env.task_ids("train")[:num_tasks], 0, 0.0
    for task_id in tasks:
        observation, info = env.reset(options={"task_id": task_id})
        began = time.perf_counter()
        oracle = env.oracle()
        slowest = max(slowest, time.perf_counter() - began)
        is_over = False
        while not is_over:
            observation, _, terminated, truncated, info = env.step(oracle.act(observation))
            is_over = terminated or truncated
        won += info["won"]
    env.close()
    return f"The oracle wins {won} of {len(tasks)} train tasks; the slowest gold path took {slowest:.0f} s."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--gold", type=int, default=30, help="train tasks for the oracle")
    given = parser.parse_args()
    print(f"{describe()}\n\n| valid actions listed | start | reset | steps/s | memory |\n|---|---|---|---|---|")
    for admissible in (False, True):
        print(speed(admissible, given.episodes), flush=True)
    print(f"\n{gold(given.gold)}")


if __name__ == "__main__":
    main()
