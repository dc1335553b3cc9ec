"""Part `memory` of benchmarks/scale.py: resident memory over many episodes."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scale_env import ScaleEnv
from scale_ways import tokenizer

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.process.pool import Processes
from agentgym_rft.evaluation.players import AgentWorkers, text_workers
from agentgym_rft.rollouts.episode.players import scripted
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.model import build_model

NUM_EPISODES, WARM_UP = 10_000, 2_000
BATCH = 250  # episodes between two looks
AT_ONCE = 64
Play = Callable[[list[str], int], Any]


def memory(repeats: int) -> dict[str, Any]:
    """Resident bytes of this process, and of its processes, over the episodes. One run each, whatever `repeats` is."""
    rows = {}
    for name, open_way in WAYS.items():
        with open_way() as (play, tasks, pids):
            rows[name] = _over_episodes(play, tasks, pids)
    return {"num_episodes": NUM_EPISODES, "warm_up": WARM_UP, "rows": rows}


def _over_episodes(play: Play, tasks: list[str], pids: Callable[[], list[int]]) -> dict[str, Any]:
    driver, children = [], []
    for first in range(0, NUM_EPISODES, BATCH):
        play([tasks[i % len(tasks)] for i in range(first, first + BATCH)], first)
        gc.collect()
        driver.append(resident(os.getpid()))
        children.append(sum(resident(pid) for pid in pids()))
    return {"driver": driver, "children": children}


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _played(workers: LocalWorkers | AgentWorkers, max_steps: int) -> Play:
    spec = EpisodeSpec("", "g", "", 0, 1.0, max_steps, 2048)

    def play(tasks: list[str], first: int) -> None:
        async def all_of_them() -> None:
            specs = [replace(spec, task_id=t, episode_id=f"e{first + i}", seed=first + i) for i, t in enumerate(tasks)]
            for trajectory in await asyncio.gather(*(workers.play(each) for each in specs)):
                assert not trajectory.is_error, trajectory.info["error"]

        workers.run(all_of_them)

    return play


Way = tuple[Play, list[str], Callable[[], list[int]]]


@contextmanager
def alfworld_here() -> Iterator[Way]:
    workers = text_workers(partial(make_env, "alfworld"), scripted("expert"), max_concurrency=AT_ONCE)
    yield _played(workers, 50), list(make_env("alfworld").task_ids("train")), list
    workers.close()


@contextmanager
def alfworld_in_processes() -> Iterator[Way]:
    processes = Processes(2, timeout_s=60)
    made = partial(ProcessEnv, "alfworld", processes=processes, lazy=True)
    workers = text_workers(made, scripted("expert"), max_concurrency=AT_ONCE)
    yield _played(workers, 50), list(make_env("alfworld").task_ids("train")), lambda: processes.pids
    workers.close()


@contextmanager
def tokens_and_model() -> Iterator[Way]:
    tokens, card = tokenizer(), load_card(Config().agent)
    tiny = ModelSection(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, head_dim=8
    )
    policy = HFPolicy(build_model(tiny, len(tokens), seed=0), max_concurrency=AT_ONCE, max_context=2048)
    workers = LocalWorkers(ScaleEnv, card, tokens, policy, max_concurrency=AT_ONCE, max_context=2048)
    yield _played(workers, 4), ["cpu:0"], list
    workers.close()


WAYS = {
    "local, ALFWorld, its expert": alfworld_here,
    "2 processes, never replaced, ALFWorld, its expert": alfworld_in_processes,
    "local, trivial environment, tiny model of random weights": tokens_and_model,
}


def show_memory(result: dict[str, Any]) -> str:
    """A Markdown table: medians of the first fifth after the warm-up and of the last fifth."""
    lines = ["| what plays | process | after warm-up, MB | at the end, MB | change |", "|---|---|---:|---:|---:|"]
    skipped = result["warm_up"] // BATCH
    for name, row in result["rows"].items():
        for part in ("driver", "children"):
            sizes = row[part][skipped:]
            if not any(sizes):
                continue
            fifth = max(1, len(sizes) // 5)
            first, last = statistics.median(sizes[:fifth]), statistics.median(sizes[-fifth:])
            lines.append(f"| {name} | {part} | {first / 1e6:.0f} | {last / 1e6:.0f} | {last / first - 1:+.1%} |")
    return "\n".join(lines)
