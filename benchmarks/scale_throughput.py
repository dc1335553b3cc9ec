"""Part `throughput` of benchmarks/scale.py: steps a second against the number of workers, and what limits them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scale_model import Costs, limits_table, seven_billion_table
from scale_ways import CORES, Measured, episodes, process_workers, ray_workers, timed

from agentgym_rft.rollouts.workers.base import Workers

NUM_WORKERS = (1, 2, 4, 8)
TASKS = ("sleep:1", "sleep:5", "cpu:1", "cpu:5")
AT_ONCE = 4  # episodes for each worker
TURNS = 20
LENGTHS = (5, 50)  # turns of the short and the long episodes that part the cost of an episode from that of a turn
SECONDS = 1.0  # of one measurement, about


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    way: str
    num_workers: int
    task: str
    steps_per_s: float


def throughput(repeats: int) -> dict[str, Any]:
    """Measured points, and the costs that the model takes from them. Medians of `repeats`."""
    points: list[Point] = []
    costs: dict[str, Costs] = {}
    for way in ("processes", "ray"):
        with _opened(way) as pools:
            for number, workers in pools:
                points += [Point(way, number, task, _rate(workers, number, task, repeats)) for task in TASKS]
                if number == NUM_WORKERS[0]:
                    per_episode_us, per_turn_us = _driver_costs(workers, repeats)
        # The environments that wait leave the cores alone, so that what is left is the worker's own.
        alone = [p for p in points if p.way == way and p.num_workers == 1 and p.task.startswith("sleep")]
        worker_us = statistics.median(1e6 / p.steps_per_s - 1e3 * float(p.task.partition(":")[2]) for p in alone)
        costs[way] = Costs(per_episode_us, per_turn_us, max(0.0, worker_us))
    return {
        "cores": CORES,
        "points": [[p.way, p.num_workers, p.task, p.steps_per_s] for p in points],
        "costs": {way: [c.episode_us, c.turn_us, c.worker_us] for way, c in costs.items()},
    }


@contextmanager
def _opened(way: str) -> Iterator[Iterator[tuple[int, Workers]]]:
    """Workers of each number, one pool after the other."""
    if way == "ray":
        with ray_workers(max(NUM_WORKERS)) as first:
            yield ((number, first(number)) for number in NUM_WORKERS)
        return
    pools = [(number, process_workers(number, AT_ONCE)) for number in NUM_WORKERS]
    try:
        yield iter(pools)
    finally:
        for _, pool in pools:
            pool.close()


def _rate(workers: Workers, number: int, task: str, repeats: int) -> float:
    """Steps a second, all places taken."""
    unit = AT_ONCE * number
    episodes(workers, "cpu:0", unit, 2)  # everything is there
    expected = number * 1e3 / float(task.partition(":")[2])
    if task.startswith("cpu"):
        expected = min(expected, CORES * expected / number)
    num_episodes = max(1, round(SECONDS * expected / TURNS / unit)) * unit
    runs = [timed(lambda: episodes(workers, task, num_episodes, TURNS)) for _ in range(repeats)]
    return statistics.median(run.num_steps / run.wall_s for run in runs)


def _driver_costs(workers: Workers, repeats: int) -> tuple[float, float]:
    """CPU time of this process, in us, for an episode and for each of its turns."""

    def per_episode(turns: int) -> float:
        runs: list[Measured] = [timed(lambda: episodes(workers, "cpu:0", 100, turns)) for _ in range(repeats)]
        return statistics.median(run.driver_cpu_s for run in runs) / 100 * 1e6

    short, long = (per_episode(turns) for turns in LENGTHS)
    turn_us = (long - short) / (LENGTHS[1] - LENGTHS[0])
    return max(0.0, short - LENGTHS[0] * turn_us), turn_us


def show_throughput(result: dict[str, Any]) -> str:
    """Markdown: the points, the costs, what limits more workers than are here, and the estimate for a large model."""
    points = {(way, number, task): rate for way, number, task, rate in result["points"]}
    lines = ["Steps a second:", "", "| workers | " + " | ".join(TASKS) + " |", "|---|" + "---:|" * len(TASKS)]
    for way in ("processes", "ray"):
        for number in NUM_WORKERS:
            cells = " | ".join(f"{points[way, number, task]:,.0f}" for task in TASKS)
            lines.append(f"| {number} {way} | {cells} |")
    lines += ["", "Costs that the model takes from this, in us of CPU time (the worker's: of wall time):", ""]
    lines += ["| | driver, an episode | driver, a turn | worker, a turn |", "|---|---:|---:|---:|"]
    costs = {way: Costs(*values) for way, values in result["costs"].items()}
    lines += [f"| {w} | {c.episode_us:,.0f} | {c.turn_us:,.0f} | {c.worker_us:,.0f} |" for w, c in costs.items()]
    lines += ["", "Model, not a measurement: steps a second that workers and driver can do, the limit in bold.", ""]
    lines += [
        *limits_table(costs),
        "",
        "Model, not a measurement: a 7B policy on 8 GPUs.",
        "",
        *seven_billion_table(costs),
    ]
    return "\n".join(lines)
