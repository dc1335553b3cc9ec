"""Rules of the environment contract about leaks of files, threads, processes and memory, and about time."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.subject import RandomActor, Subject, play, require

_CYCLE = 10  # different episodes, which are repeated: memory kept for each of them is a cache, not a leak
_EPISODE_STEPS = 20
_NUM_TRACED = 400
_KEPT_BYTES = 64  # of Python objects, an episode
_NOISE_BYTES = 4096  # smaller growth between two measurements is noise
_KEPT_RESIDENT = 8 * 1024  # of resident memory, an episode; a leak outside Python
_NOISE_RESIDENT = 16 * 2**20  # smaller growth of resident memory is noise
_SLACK = 3  # files, threads or processes that may appear once, late


@dataclass(frozen=True, slots=True)
class Held:
    """The resources of this process: counts, and resident memory in bytes. Zero where the system does not tell."""

    files: int
    threads: int
    processes: int
    resident: int


def held() -> Held:
    """Return the resources that this process holds now."""
    gc.collect()
    return Held(_entries("/dev/fd"), _num_threads(), _num_children(), _resident())


def episodes_leave_nothing_behind(subject: Subject) -> str:
    """Check that many episodes in one instance leave no files, threads, processes or memory behind.

    Ten episodes are repeated, so that caches are full after the first round.
    """
    env = subject.make()
    _repeat(lambda number: _episode(subject, env, number), 2 * _CYCLE, math.inf)
    before = held()
    deadline = time.monotonic() + subject.settings.budget_s
    number = _repeat(lambda number: _episode(subject, env, number), subject.settings.num_episodes, deadline)
    after = held()
    _compare(before, after, number, "episodes")
    grown = after.resident - before.resident
    require(
        grown < max(_NOISE_RESIDENT, _KEPT_RESIDENT * number),
        f"{number} episodes add {grown / 2**20:.0f} MiB of resident memory; something outside Python is not freed.",
    )
    kept = _kept_bytes(subject, env, min(_NUM_TRACED, number) // _CYCLE, deadline + subject.settings.budget_s)
    require(kept < _KEPT_BYTES, f"each episode keeps {kept:.0f} bytes of Python objects; empty what reset starts anew.")
    return f"{number} episodes"


def instances_leave_nothing_behind(subject: Subject) -> str:
    """Check that many instances, each made, played and closed, leave no files, threads or processes behind."""

    def live(number: int) -> None:
        env = subject.factory()
        _episode(subject, env, number)
        env.close()

    _repeat(live, 2, math.inf)
    before = held()
    deadline = time.monotonic() + subject.settings.budget_s
    number = _repeat(live, subject.settings.num_instances, deadline)
    _compare(before, held(), number, "instances")
    return f"{number} instances"


def steps_take_bounded_time(subject: Subject) -> str:
    """Check that a step takes less than a generous limit. The times are reported."""
    began = time.perf_counter()
    env = subject.make()
    make_s = time.perf_counter() - began
    _episode(subject, env, 0)  # what is loaded on first use is not counted
    began = time.perf_counter()
    seen = subject.start(env)
    reset_s = time.perf_counter() - began
    began = time.perf_counter()
    log = play(env, seen, RandomActor(0), _EPISODE_STEPS)
    step_s = (time.perf_counter() - began) / max(1, len(log))
    limit = subject.settings.max_step_s
    require(
        step_s <= limit, f"a step takes {shown_time(step_s)} on average, more than {shown_time(limit)}; make it faster."
    )
    return f"make {shown_time(make_s)}, reset {shown_time(reset_s)}, step {shown_time(step_s)}"


def shown_time(seconds: float) -> str:
    """Return a time in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _episode(subject: Subject, env: TextEnv, number: int) -> None:
    """Play a short episode; the same for equal `number` modulo the cycle."""
    seed = number % _CYCLE
    tasks = subject.tasks()
    play(env, subject.start(env, tasks[seed % len(tasks)], seed), RandomActor(seed), _EPISODE_STEPS)


def _repeat(once: Callable[[int], None], number: int, deadline: float) -> int:
    """Call `once` with 0, 1, ... until `number` or the deadline is reached, at least once. Returns how
    often.
    """
    for index in range(number):
        once(index)
        if time.monotonic() > deadline:
            return index + 1
    return number


def _compare(before: Held, after: Held, number: int, what: str) -> None:
    limit = max(_SLACK, number // 20)
    for name, old, new in (
        ("open files", before.files, after.files),
        ("threads", before.threads, after.threads),
        ("processes", before.processes, after.processes),
    ):
        require(new - old <= limit, f"{number} {what} leave {new - old} {name} behind; end them in reset and close.")


def _kept_bytes(subject: Subject, env: TextEnv, num_rounds: int, deadline: float) -> float:
    """Return bytes of Python objects that an episode keeps: the least of three stretches of rounds; 0 if that is
    noise.
    """
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for _ in range(4):  # the first stretch replaces objects that were not counted yet
            number = _repeat(lambda number: _episode(subject, env, number), max(1, num_rounds // 4) * _CYCLE, deadline)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            if time.monotonic() > deadline:
                return 0.0  # too slow to measure
    finally:
        tracemalloc.stop()
    grown = min(after - before for before, after in pairwise(sizes))
    return grown / number if grown > _NOISE_BYTES else 0.0


def _entries(folder: str) -> int:
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


def _num_threads() -> int:
    """Return threads of this process, those that are not Python's included where the system lists them."""
    return _entries("/proc/self/task") or threading.active_count()


def _num_children() -> int:
    lists = Path("/proc/self/task").glob("*/children")
    return sum(len(path.read_text().split()) for path in lists)


def _resident() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
