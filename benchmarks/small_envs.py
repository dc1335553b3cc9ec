"""Speed of the small environments, and what a random player, the oracle and the expert score on their test splits.

    python benchmarks/small_envs.py [--tasks 100] [--seconds 3]

Steps include resets, in episodes of a random player; tasks are generated before. "task ms" is the time to generate and
check a task of the test split; where all tasks are generated to list them, that time by the number of tasks is in it.
It is less where an earlier row has made the same tasks. Prints the table of docs/small_environments.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import describe

from agentgym_rft.envs import TextEnv, make_env
from agentgym_rft.envs.base import Expert


@dataclass(frozen=True)
class Case:
    """An environment with options."""

    name: str
    options: Mapping[str, Any]


CASES = (
    Case("Sokoban", {}),
    Case("Sokoban", {"width": 6, "height": 6, "boxes": 1, "difficulty": 5}),
    Case("Sokoban", {"width": 8, "height": 8, "boxes": 3, "difficulty": 15}),
    Case("FrozenLake", {}),
    Case("FrozenLake", {"is_slippery": True}),
    Case("FrozenLake", {"size": 8}),
    Case("FrozenLake", {"size": 8, "is_slippery": True}),
    Case("SearchQA", {}),
    Case("Arithmetic", {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100, help="tasks of the test split")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each rate")
    arguments = parser.parse_args()
    print(describe(), "\n")
    print("| environment | options | task ms | steps/s | random | expert | oracle | oracle's steps |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        print(row(case, arguments.tasks, arguments.seconds), flush=True)


def row(case: Case, num_tasks: int, seconds: float) -> str:
    env = make_env(case.name, case.options)
    began = time.perf_counter()
    num_listed = sum(len(env.task_ids(split)) for split in env.splits)
    listing_s = time.perf_counter() - began
    tasks = list(env.task_ids("test")[:num_tasks])
    began = time.perf_counter()
    for task_id in tasks:
        env.task_content(task_id)
    task_s = (time.perf_counter() - began) / len(tasks) + listing_s / num_listed
    rng = np.random.default_rng(0)
    scores = {
        "random": play_all(env, tasks, lambda observation: env.random_player(rng), rng),
        "expert": play_all(env, tasks, lambda observation: env.expert(observation, np.random.default_rng(0)), rng),
        "oracle": play_all(env, tasks, lambda observation: env.oracle(), rng),
    }
    cells = " | ".join(shown(*scores[who][:2]) for who in scores)
    options = ", ".join(f"{key} {value}" for key, value in case.options.items()) or "defaults"
    rate = steps_per_s(env, tasks, seconds)
    steps = scores["oracle"][2] / len(tasks)
    return f"| {case.name} | {options} | {task_s * 1e3:.2g} | {rate:,.0f} | {cells} | {steps:.1f} |"


def shown(success: float, score: float) -> str:
    """Success, and the score where it is another number."""
    return f"{success:.3f}" if abs(success - score) < 5e-4 else f"{success:.3f} (score {score:.3f})"


def play_all(
    env: TextEnv, tasks: list[str], player_of: Callable[[str], Expert | None], rng: np.random.Generator
) -> tuple[float, float, int]:
    """Success, mean score, and the number of steps, over one episode of each task. No player: any admissible action."""
    wins, score, num_steps = 0, 0.0, 0
    for number, task_id in enumerate(tasks):
        observation, info = env.reset(seed=number, options={"task_id": task_id})
        player, is_over = player_of(observation), False
        while not is_over:
            action = rng.choice(info["admissible_actions"]) if player is None else player.act(observation)
            observation, _, terminated, truncated, info = env.step(action)
            is_over = terminated or truncated
            num_steps += 1
        wins += info["won"]
        score += info["score"]
    return wins / len(tasks), score / len(tasks), num_steps


def steps_per_s(env: TextEnv, tasks: list[str], seconds: float) -> float:
    rng, num_steps, began = np.random.default_rng(0), 0, time.perf_counter()
    while True:
        num_steps += play_all(env, tasks[:20], lambda observation: env.random_player(rng), rng)[2]
        elapsed = time.perf_counter() - began
        if elapsed > seconds:
            return num_steps / elapsed


if __name__ == "__main__":
    main()
