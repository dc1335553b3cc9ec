"""What TextWorld's real engine costs: making games, steps, going back, and memory. And what worker processes cost.

    python benchmarks/textworld_speed.py [--cache DIR] [--seconds 3]

Prints the numbers of docs/textworld.md. Needs the extra `textworld`. Everything runs in worker processes, as in
training.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import describe

from agentgym_rft import registry
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.textworld.engine import Engine
from agentgym_rft.envs.textworld.games import HASH_SEED, game_file
from agentgym_rft.envs.textworld.tasks import DEFAULT_GAMES, Task, read_task

GAMES = (*DEFAULT_GAMES, "cooking-l6")
NUM_LOADS = 60


class Probe(TextEnv):
    """Measures in the worker process; a task id is what to measure, and `task_content` the answer."""

    splits = ("train",)

    def __init__(self, cache: str, seconds: float) -> None:
        self._cache, self._seconds = Path(cache), seconds

    def task_ids(self, split: str) -> Sequence[str]:
        return ["made", "steps", "memory"]

    def task_content(self, task_id: str) -> bytes:
        what, _, task = task_id.partition(" ")
        measure: dict[str, Callable[[Task], str]] = {"made": self._made, "steps": self._steps, "memory": self._memory}
        return measure[what](read_task(task)).encode()

    def _made(self, task: Task) -> str:
        game_file(Task(task.family, task.level, 900_000), self._cache)  # imports, and what families have in common
        began = time.perf_counter()
        for seed in (900_001, 900_002):
            game_file(Task(task.family, task.level, seed), self._cache)
        return f"{(time.perf_counter() - began) / 2:.2f} s"

    def _steps(self, task: Task) -> str:
        path = game_file(task, self._cache)
        engine, scout = Engine(path), Engine(path, policy=True)
        actions = _walk(engine, 20)
        reset = _mean(engine.reset, self._seconds / 8)
        step, step_policy = (_mean_step(each, actions, self._seconds / 2) for each in (engine, scout))
        saved = engine.save()
        save, load = _mean(engine.save, self._seconds / 8), _mean(lambda: engine.load(saved), self._seconds / 8)
        copy = _mean(lambda: engine._env.copy().close(), self._seconds / 4)
        cells = (reset, step, step_policy, copy, save, load)
        return " | ".join(f"{cell * 1e3:.1f}" for cell in cells) + f" | {(save + load) / step:.1f}"

    def _memory(self, task: Task) -> str:
        paths = [game_file(read_task(f"{name}-s0-g1"), self._cache) for name in DEFAULT_GAMES]
        engine = Engine(paths[0])
        grown = []
        for change in (lambda path: engine.reset(), _reload(engine), _fresh):
            change(paths[1])
            before = _resident()
            for number in range(NUM_LOADS):
                change(paths[number % len(paths)])
            grown.append((_resident() - before) / NUM_LOADS)
        return " | ".join(f"{each / 1024:.0f}" for each in grown)


def _reload(engine: Engine) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        engine._env.load(str(path))
        engine.reset()

    return change


def _fresh(path: Path) -> None:
    Engine(path).close()


def _walk(engine: Engine, length: int) -> list[str]:
    """Random admissible actions that do not end the game."""
    draw = random.Random(0)
    engine.reset()
    actions: list[str] = []
    while len(actions) < length:
        action = draw.choice([each for each in engine.admissible() if each.split()[0] not in ("eat", "cook", "take")])
        engine.step(action)
        actions.append(action)
    return actions


def _mean(call: Callable[[], Any], seconds: float) -> float:
    number, began = 0, time.perf_counter()
    while number < 3 or time.perf_counter() - began < seconds:
        call()
        number += 1
    return (time.perf_counter() - began) / number


def _mean_step(engine: Engine, actions: Sequence[str], seconds: float) -> float:
    number, spent = 0, 0.0
    while spent < seconds:
        engine.reset()
        began = time.perf_counter()
        for action in actions:
            engine.step(action)
        spent += time.perf_counter() - began
        number += len(actions)
    return spent / number


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _process_cost() -> str:
    """Start of a process, and what a step of ALFWorld costs more in one, in ms."""
    began = time.perf_counter()
    there = ProcessEnv("alfworld")
    started = time.perf_counter() - began
    costs = []
    for env in (registry.make("alfworld"), there):
        env.reset(seed=0)
        began = time.perf_counter()
        for _ in range(49):
            env.step("look")
        costs.append((time.perf_counter() - began) / 49)
        env.close()
    return f"{started:.2f} s to start, {(costs[1] - costs[0]) * 1e3:.2f} ms more a step"


def _through_env(cache: str) -> str:
    """Steps and resets a second of `TextWorldEnv`, admissible actions included, over all default games."""
    env, draw = registry.make("textworld", cache_dir=cache), random.Random(0)
    tasks = env.task_ids("train")[: len(DEFAULT_GAMES)]
    for task_id in tasks:
        env.reset(options={"task_id": task_id})
    number, began = 0, time.perf_counter()
    while time.perf_counter() - began < 5:
        _, info = env.reset(options={"task_id": tasks[number % len(tasks)]})
        is_over = False
        for _ in range(20):
            if not is_over:
                _, _, terminated, truncated, info = env.step(draw.choice(info["admissible_actions"]))
                is_over, number = terminated or truncated, number + 1
    env.close()
    return f"{number / (time.perf_counter() - began):.0f} steps/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default=None, help="where games are kept; default: a temporary folder")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring for each game")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = given.cache or folder
        options = {"cache": cache, "seconds": given.seconds}
        probe = ProcessEnv(f"{Path(__file__).stem}:Probe", options, hash_seed=HASH_SEED)
        print(f"{describe()}\n\nWorker processes: {_process_cost()}\n")
        print("| game | make | reset ms | step ms | with policy | engine's copy ms | save ms | load ms | in steps |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name in GAMES:
            task = f"{name}-s0-g1"
            made, steps = (probe.task_content(f"{what} {task}").decode() for what in ("made", "steps"))
            print(f"| `{name}` | {made} | {steps} |", flush=True)
        grown = probe.task_content(f"memory {DEFAULT_GAMES[0]}-s0-g1").decode()
        print(f"\nKiB kept a game: reset | load into one engine | a new engine: {grown}")
        probe.close()
        print(f"\nTextWorldEnv, a reset at most every 20 steps: {_through_env(cache)}")


if __name__ == "__main__":
    main()
