"""Speed and size of the ALFWorld engine beside the real one, in the same run on the same games.

    python benchmarks/env_speed.py [--data DIR] [--games 8] [--seconds 5] [--real-seconds 30]

Plays fixed action logs (random admissible commands, an episode of 20 each) through both engines: the real one through
the calls that alfworld makes, ours as `ALFWorldEnv` and bare. `--data` takes games in ALFWorld's layout; without it the
games are generated, written as files, and read back. Loading is timed apart, so "steps/s" is steps and resets only.
Needs the extra `alfworld` for the right-hand side; without it only our side is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import describe

from agentgym_rft.envs.alfworld.compiled import CompiledGame
from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.alfworld.pddl import game_document, parse_game
from agentgym_rft.envs.alfworld.tasks import GeneratedTasks, compiled, task_source

EPISODE = 20  # steps between resets
NUM_ENVS = 200  # for the size of one


@dataclass(frozen=True)
class Case:
    """A game and the actions that are played in it."""

    task_id: str
    game: CompiledGame
    actions: tuple[str, ...]


def written_games(folder: Path, num_games: int) -> None:
    """Write generated games in ALFWorld's layout."""
    tasks = GeneratedTasks()
    for number, task_id in enumerate(tasks.task_ids("train")[:num_games]):
        game = tasks.game(task_id)
        path = folder / "train" / f"{game.goal.task_type.value}-{number}" / "trial" / "game.tw-pddl"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(game_document(game)))


def make_cases(data: Path, split: str, num_games: int) -> list[Case]:
    source = task_source(data)
    cases = []
    for task_id in source.task_ids(split)[:num_games]:
        game = compiled(source, task_id)
        world, rng, actions = World(game), random.Random(task_id), []
        for _ in range(EPISODE):
            actions.append(rng.choice(world.admissible()))
            world.step(actions[-1])
        cases.append(Case(task_id, game, tuple(actions)))
    return cases


def steps_per_s(play: Callable[[Case], None], cases: Sequence[Case], seconds: float) -> float:
    """Episodes of all cases in turn until the time is up; the rate of the steps, resets included."""
    num_steps, start = 0, time.perf_counter()
    while True:
        for case in cases:
            play(case)
            num_steps += EPISODE
            elapsed = time.perf_counter() - start
            if elapsed > seconds:
                return num_steps / elapsed


def bare(case: Case) -> None:
    world = World(case.game)
    for action in case.actions:
        world.step(action)
        world.won  # noqa: B018 - part of the work


def with_admissible(case: Case) -> None:
    world = World(case.game)
    world.admissible()
    for action in case.actions:
        world.step(action)
        world.won  # noqa: B018 - part of the work
        world.admissible()


def environment(env: ALFWorldEnv) -> Callable[[Case], None]:
    def play(case: Case) -> None:
        env.reset(options={"task_id": case.task_id})
        for action in case.actions:
            env.step(action)

    return play


def real_speed(data: Path, cases: Sequence[Case], seconds: float) -> tuple[float, float]:
    """Steps/s with resets, and seconds to load a game, in the real engine."""
    from agentgym_rft.envs.alfworld.textworld_backend import RealWorld

    source, real = task_source(data), None
    num_steps, playing_s, loading_s, num_games = 0, 0.0, 0.0, 0
    for case in cases:
        document = source.document(case.task_id)
        start = time.perf_counter()
        if real is None:
            real = RealWorld(document)
        else:
            real.load(document)
        loaded = time.perf_counter()
        real.reset()
        for action in case.actions:
            real.step(action)
            real.admissible()
        playing_s += time.perf_counter() - loaded
        loading_s += loaded - start
        num_steps += EPISODE
        num_games += 1
        if playing_s + loading_s > seconds:
            break
    return num_steps / playing_s, loading_s / num_games


def milliseconds(work: Callable[[], object], repeats: int = 300) -> float:
    """The shortest of five rounds, for one call."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        rounds.append((time.perf_counter() - start) / repeats)
    return 1000 * min(rounds)


def bytes_per_env(data: Path, cases: Sequence[Case]) -> float:
    """Memory of one environment in the middle of an episode, beyond the compiled games that all share."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    envs = [ALFWorldEnv(data=str(data)) for _ in range(NUM_ENVS)]
    for number, env in enumerate(envs):
        case = cases[number % len(cases)]
        env.reset(seed=number, options={"task_id": case.task_id})
        for action in case.actions[: EPISODE // 2]:
            env.step(action)
    size = (tracemalloc.get_traced_memory()[0] - before) / len(envs)
    tracemalloc.stop()
    return size


def report(data: Path, arguments: argparse.Namespace) -> None:
    cases = make_cases(data, arguments.split, arguments.games)
    source = task_source(data)
    print(f"{describe()}\n{len(cases)} games, episodes of {EPISODE} steps\n")
    env = ALFWorldEnv(data=str(data))
    rates = {
        "own engine": steps_per_s(bare, cases, arguments.seconds),
        "own engine, admissible commands": steps_per_s(with_admissible, cases, arguments.seconds),
        "ALFWorldEnv, admissible commands": steps_per_s(environment(env), cases, arguments.seconds),
    }
    real_rate = None
    if importlib.util.find_spec("alfworld") is not None:
        real_rate, load_s = real_speed(data, cases, arguments.real_seconds)
        print(f"{'real engine, admissible commands':40} {real_rate:12,.1f} steps/s   (loading {load_s:.2f} s a game)")
    for name, rate in rates.items():
        ratio = f"   {rate / real_rate:10,.0f} x" if real_rate else ""
        print(f"{name:40} {rate:12,.0f} steps/s{ratio}")
    case = cases[0]
    document = json.dumps(source.document(case.task_id))
    game = parse_game(document, case.task_id)
    world = World(case.game)
    env.reset(seed=0, options={"task_id": case.task_id})
    for action in case.actions:
        world.step(action)
        env.step(action)
    print(f"\n{'snapshot + restore, engine':40} {milliseconds(lambda: world.restore(world.snapshot())):12.4f} ms")
    print(f"{'snapshot + restore, ALFWorldEnv':40} {milliseconds(lambda: env.restore(env.snapshot())):12.4f} ms")
    print(f"{'bytes an environment':40} {bytes_per_env(data, cases):12,.0f}")
    print(f"{'parse a game file':40} {milliseconds(lambda: parse_game(document, 'x'), 50):12.3f} ms")
    print(f"{'compile a game':40} {milliseconds(lambda: compile_game(game), 50):12.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder in ALFWorld's layout; default: generated games")
    parser.add_argument("--split", default="train")
    parser.add_argument("--games", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row of our engine")
    parser.add_argument("--real-seconds", type=float, default=30.0, help="for the real engine, at least one game")
    arguments = parser.parse_args()
    if arguments.data is not None:
        report(arguments.data, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        written_games(Path(folder), arguments.games)
        report(Path(folder), arguments)


if __name__ == "__main__":
    main()
