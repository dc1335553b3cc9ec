"""Speed and memory of WebShop: steps/s, bytes, building, and the time of a query.

    python benchmarks/webshop_speed.py [--data DIR] [--episodes 300] [--seconds 5] [--sizes 1000 10000 100000]

Episodes of the searching expert and of a random player are recorded first. Then a fresh process replays their actions
through `WebShopEnv`, search and reward included: "first" is one pass, in which every search and title is new, and
"again" are further passes, in which rankings and nouns are remembered, as for the episodes of a group. `--data` takes
the original files for this table; the other is always synthetic. It builds catalogues of several sizes, each in one
fresh process, and opens and searches them in another. Memory is the resident set of such a process, and its peak.
Queries are searches as the expert types them and whole instructions, in turn, each asked once. The extra `tantivy`, if
it is installed, is measured beside the own search. Seconds are of processor time, so that other work on the machine
does not count; all of it is one thread's.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from machine import describe

from agentgym_rft.envs.webshop.catalog import CatalogOptions, open_catalog
from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.envs.webshop.players import RandomPlayer, SearchExpert

NUM_QUERIES = 1000
ROUNDS = 3  # fresh processes; the best of their rates counts
Log = tuple[str, tuple[str, ...]]  # task id, actions
T = TypeVar("T")


class Player(Protocol):
    """What chooses actions."""

    def act(self, observation: str) -> str: ...


@dataclass(frozen=True)
class Replayed:
    """Steps per second of processor time, and the memory of the process in MB."""

    first: float
    again: float
    opening_s: float
    resident: float
    peak: float


@dataclass(frozen=True)
class Searched:
    """Milliseconds of a query, and of opening; the memory of the process in MB."""

    opening_s: float
    resident: float
    median: float
    slowest: float  # of a hundred


def memory() -> tuple[float, float]:
    """The resident set of this process and its peak, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return resident, peak


def in_fresh_process(work: Callable[..., T], *arguments: object) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def record(data: str | None, make_player: Callable[[np.random.Generator], Player], num_episodes: int) -> list[Log]:
    """Episodes of one player, each of another task."""
    env = WebShopEnv(data=data)
    tasks = env.task_ids("train")
    num_episodes = min(num_episodes, len(tasks))
    logs = []
    for number in range(num_episodes):
        task_id, player = tasks[number * len(tasks) // num_episodes], make_player(np.random.default_rng(number))
        actions: list[str] = []
        observation, is_over = env.reset(seed=number, options={"task_id": task_id})[0], False
        while not is_over:
            actions.append(player.act(observation))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            is_over = terminated or truncated
        logs.append((task_id, tuple(actions)))
    return logs


def replay(data: str | None, logs: Sequence[Log], seconds: float) -> Replayed:
    """The rates of playing recorded actions, resets included."""
    start = time.process_time()
    env = WebShopEnv(data=data)
    opening_s = time.process_time() - start

    def once() -> int:
        for task_id, actions in logs:
            env.reset(options={"task_id": task_id})
            for action in actions:
                env.step(action)
        return sum(len(actions) for _, actions in logs)

    start = time.process_time()
    first = once() / (time.process_time() - start)
    num_steps, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        num_steps += once()
    return Replayed(first, num_steps / (time.process_time() - start), opening_s, *memory())


def build(num_products: int, search: str, cache: str) -> tuple[float, float]:
    """Seconds to make a synthetic catalogue with its index, and the peak of memory."""
    start = time.process_time()
    open_catalog(CatalogOptions(num_products=num_products, search=search, cache_dir=cache))
    return time.process_time() - start, memory()[1]


def ask(num_products: int, cache: str) -> list[str]:
    """Distinct queries: what the expert types, and whole instructions, in turn."""
    env = WebShopEnv(num_products=num_products, cache_dir=cache)
    tasks, found = env.task_ids("train"), {}
    for number in range(min(NUM_QUERIES, len(tasks))):
        task_id = tasks[number * len(tasks) // min(NUM_QUERIES, len(tasks))]
        if number % 2:
            found[env.goal(task_id).instruction.lower()] = None
        else:
            typed = SearchExpert().act(env.reset(options={"task_id": task_id})[0])
            found[typed.removeprefix("search[").removesuffix("]")] = None
    return list(found)


def search(num_products: int, backend: str, cache: str, asked: Sequence[str]) -> Searched:
    """The times of queries that are asked once each."""
    start = time.process_time()
    catalog = open_catalog(CatalogOptions(num_products=num_products, search=backend, cache_dir=cache))
    opening_s = time.process_time() - start
    times = []
    for query in asked:
        start = time.process_time()
        catalog.find(query.split())
        times.append(1000 * (time.process_time() - start))
    return Searched(opening_s, memory()[0], float(np.median(times)), float(np.quantile(times, 0.99)))


def print_steps(arguments: argparse.Namespace) -> None:
    data = None if arguments.data is None else str(arguments.data)
    print(f"{'episodes':18} {'steps':>7} {'first/s':>9} {'again/s':>9} {'opening s':>10} {'MB':>6} {'peak MB':>8}")
    players: dict[str, Callable[[np.random.Generator], Player]] = {
        "searching expert": lambda rng: SearchExpert(rng),
        "random": RandomPlayer,
    }
    for name, make_player in players.items():
        logs = record(data, make_player, arguments.episodes)
        runs = [in_fresh_process(replay, data, logs, arguments.seconds) for _ in range(ROUNDS)]
        first, again = max(run.first for run in runs), max(run.again for run in runs)
        opening_s, resident = min(run.opening_s for run in runs), max(run.resident for run in runs)
        num_steps, peak = sum(len(actions) for _, actions in logs), max(run.peak for run in runs)
        print(f"{name:18} {num_steps:7,} {first:9,.0f} {again:9,.0f} {opening_s:10.2f} {resident:6.0f} {peak:8.0f}")


def print_sizes(sizes: Sequence[int], cache: str) -> None:
    backends = ["bm25"] + ["tantivy"] * (importlib.util.find_spec("tantivy") is not None)
    print(
        f"\n{'products':>9} {'search':8} {'build s':>8} {'peak MB':>8} {'open s':>7} {'MB':>6} "
        f"{'p50 ms':>7} {'p99 ms':>7} {'p50, ratio':>10}"
    )
    for num_products in sizes:
        built = {backend: in_fresh_process(build, num_products, backend, cache) for backend in backends}
        asked = in_fresh_process(ask, num_products, cache)
        medians = {}
        for backend, (seconds, peak) in built.items():
            found = in_fresh_process(search, num_products, backend, cache, asked)
            medians[backend] = found.median
            sizes_and_times = f"{seconds:8.1f} {peak:8.0f} {found.opening_s:7.2f} {found.resident:6.0f}"
            print(
                f"{num_products:9,} {backend:8} {sizes_and_times} {found.median:7.3f} {found.slowest:7.3f} "
                f"{found.median / medians['bm25']:10.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the original files; default: 1,000 synthetic products")
    parser.add_argument("--episodes", type=int, default=300, help="recorded for each player")
    parser.add_argument("--seconds", type=float, default=5.0, help="for the passes after the first")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000], help="synthetic products")
    arguments = parser.parse_args()
    print(f"{describe()}\n")
    print_steps(arguments)
    if arguments.sizes:
        with tempfile.TemporaryDirectory() as cache:
            print_sizes(arguments.sizes, cache)


if __name__ == "__main__":
    main()
