"""Part `overhead` of benchmarks/scale.py: what a step costs beside the environment."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from scale_ways import (
    AT_ONCE,
    CORES,
    LOCKSTEP_ENVS,
    Measured,
    actor_per_env,
    episodes,
    local_workers,
    plain_loop,
    process_workers,
    ray_workers,
    timed,
    vector_env,
)

COSTS_MS = (0, 1, 5)
EPISODE_STEPS = 50  # the default of rollout.max_steps
SECONDS = 1.0  # of one measurement, about
Play = Callable[[str, int], int]

LOOP = "plain loop, no framework"
LOCAL = "local workers"
PROCESSES = "processes"
RAY = f"Ray, {AT_ONCE} episodes an actor"
VECTOR = "gymnasium AsyncVectorEnv"
ACTORS = "one Ray actor per environment"
_FULL = AT_ONCE * CORES * EPISODE_STEPS  # steps when every place has one episode
_FEW = LOCKSTEP_ENVS * EPISODE_STEPS  # where the environment takes most of the time
IN_PARALLEL = {LOOP: 1, LOCAL: 1, PROCESSES: CORES, RAY: CORES, VECTOR: CORES, ACTORS: CORES}


def overhead(repeats: int) -> dict[str, Any]:
    """Microseconds of wall time a step in each way at each cost (of CPU time), medians of `repeats`."""
    rows: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        for way, play in _ways(stack):
            rows[way] = {str(cost): _row(play, cost, IN_PARALLEL[way], repeats) for cost in COSTS_MS}
    return {"cores": CORES, "lockstep_envs": LOCKSTEP_ENVS, "rows": rows}


def _ways(stack: ExitStack) -> list[tuple[str, Play]]:
    local, processes = local_workers(), process_workers(CORES)
    stack.callback(local.close)
    stack.callback(processes.close)
    on_ray = stack.enter_context(ray_workers(CORES))(CORES)
    return [
        (LOOP, plain_loop),
        (LOCAL, lambda task, steps: episodes(local, task, max(1, steps // EPISODE_STEPS), EPISODE_STEPS)),
        (PROCESSES, lambda task, steps: episodes(processes, task, max(1, steps // EPISODE_STEPS), EPISODE_STEPS)),
        (RAY, lambda task, steps: episodes(on_ray, task, max(1, steps // EPISODE_STEPS), EPISODE_STEPS)),
        (VECTOR, stack.enter_context(vector_env())),
        (ACTORS, stack.enter_context(actor_per_env())),
    ]


def _row(play: Play, cost_ms: int, parallel: int, repeats: int) -> dict[str, float]:
    """`overhead_us`: core time a step that is not the environment's, all cores counted that the way has."""
    task = f"cpu:{cost_ms}"
    if cost_ms:
        num_steps = _FEW
    else:
        probe = timed(lambda: play(task, _FULL))
        num_steps = max(1, int(SECONDS / probe.step_us * 1e6) // _FULL) * _FULL
    runs: list[Measured] = [timed(lambda: play(task, num_steps)) for _ in range(repeats)]
    step_us = statistics.median(run.step_us for run in runs)
    driver_us = statistics.median(run.driver_us for run in runs)
    return {
        "step_us": step_us,
        "driver_cpu_us": driver_us,
        "overhead_us": step_us * parallel - cost_ms * 1000,
        "steps_per_s": 1e6 / step_us,
        "num_steps": num_steps,
    }


def show_overhead(result: dict[str, Any]) -> str:
    """Markdown tables."""
    head = (
        "| way | " + " | ".join(f"{cost} ms: us a step | steps/s" for cost in COSTS_MS) + " | driver CPU, us a step |"
    )
    lines = [head, "|---|" + "---:|" * (2 * len(COSTS_MS) + 1)]
    for way, row in result["rows"].items():
        cells = [f"{row[str(c)]['step_us']:,.0f} | {row[str(c)]['steps_per_s']:,.0f}" for c in COSTS_MS]
        lines.append(f"| {way} | " + " | ".join(cells) + f" | {row['0']['driver_cpu_us']:.0f} |")
    local, loop = result["rows"][LOCAL]["0"]["step_us"], result["rows"][LOOP]["0"]["step_us"]
    ray, actors = result["rows"][RAY]["0"]["step_us"], result["rows"][ACTORS]["0"]["step_us"]
    lines += ["", f"In process: {local - loop:.1f} us of framework a step. Ray: {actors / ray:.0f} times the steps of "]
    lines[-1] += f"one actor per environment at no cost ({result['lockstep_envs']} actors)."
    return "\n".join(lines)
