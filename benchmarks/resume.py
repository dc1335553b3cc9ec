"""Runs killed with -9 at random moments and resumed, against one that was never killed; and what exactness costs.

    python benchmarks/resume.py [--kills 20] [--seed 0] [--only switch,alfworld,price]

For each environment a run trains to its end undisturbed. The same run is then started, killed by SIGKILL from outside
after a random time, resumed, killed again, and so on until it ends; then another one begins, until `--kills` kills have
struck. Lives last a uniform share of the undisturbed time, up to half of it, counted from when the model is loaded, so
that kills strike in rollouts, updates, checkpoints, evaluations and the replay of earlier parts alike. Compared are all
weights, trajectory files and metrics, but times and counts of what was replayed. Each life is forked from a process
that has imported everything.

The price is the processor time of a rollout: sampled tokens a second with `policy.deterministic` against without, and
the time that lines of the journal take of it; and of a replay, the processor time of a step whose completions are all
in the journal, against the step that sampled them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rollout_speed
import torch
from machine import describe
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the small environment of the tests

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.report.progress import NoProgress
from agentgym_rft.store.journal import Journal, request_digest
from agentgym_rft.trainers.loop import train

LONGEST_LIFE = 0.5  # of the undisturbed time
TIMES = ("time", "speed/", "resume/")


@dataclass(frozen=True)
class Life:
    """One process of the run: how it ended, after how long, and what was done by then."""

    seconds: float
    is_killed: bool
    num_steps: int
    num_recorded: int


def switch_config(policy: Path) -> dict[str, Any]:
    """The two-turn environment of the tests, eight steps."""
    return {
        "env": {"id": "tests.light_switch:LightSwitch"},
        "policy": {"path": str(policy), "max_context": 64, "num_threads": 1, "device": "cpu", "max_concurrency": 16},
        "rollout": {"num_tasks": 16, "group_size": 8, "max_steps": 4},
        "trainer": {"steps": 8, "learning_rate": 1e-2, "warmup_steps": 0},
        "eval": {"num_tasks": 20, "temperature": 1.0},
        "run": {"checkpoint_every": 2},
    }


def alfworld_config() -> dict[str, Any]:
    """Household tasks with the seed policy, four short steps."""
    return {
        "env": {"id": "alfworld", "options": {"admissible": False}},
        "policy": {"path": "seed:alfworld", "num_threads": 1, "device": "cpu"},
        "rollout": {"num_tasks": 4, "group_size": 4, "max_steps": 15},
        "trainer": {"steps": 4, "learning_rate": 1e-3, "num_minibatches": 2},
        "eval": {"num_tasks": 10, "at_start": False, "max_steps": 15},
        "run": {"checkpoint_every": 2},
    }


def config_of(data: dict[str, Any], out: Path, **policy: Any) -> Config:
    run = {**data["run"], "out": str(out)}
    return validate_config({**data, "policy": {**data["policy"], **policy}, "run": run})


class Begun(NoProgress):
    """Says down a pipe that the models are loaded and the first step begins."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def start(self, *, run_dir: Path, first_step: int, num_steps: int) -> None:
        os.write(self._pipe, b"!")


def live(config: Config, last_s: float | None) -> Life:
    """One life of a run in a process of its own, killed from outside so many seconds after it began to train."""
    out = Path(config.run.out or "")
    begun, pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            gc.freeze()
            train(config, resume=out if (out / "config.yaml").exists() else None, progress=Begun(pipe))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(pipe)
    os.read(begun, 1)  # or its end, if the run failed
    os.close(begun)
    start = time.perf_counter()
    status = None
    while status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif last_s is not None and time.perf_counter() - start >= last_s:
            os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            time.sleep(0.002)
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"The run failed with exit code {status}.")
    recorded = sum(path.read_bytes().count(b"\n") for path in (out / "journal").glob("*.jsonl"))
    steps = len(read_metrics(out / "metrics.jsonl"))
    return Life(time.perf_counter() - start, status != 0, steps, recorded)


def differences(a: Path, b: Path) -> dict[str, tuple[int, int]]:
    """How many weights, metrics and trajectory files of two runs differ, of how many."""
    first, second = (load_file(max((run / "checkpoints").glob("step-*")) / "model/model.safetensors") for run in (a, b))
    values = [
        {
            (row["step"], key): row[key]
            for row in read_metrics(run / "metrics.jsonl")
            for key in row
            if key[:4] != "time"
        }
        for run in (a, b)
    ]
    keys = [key for key in values[0].keys() | values[1].keys() if not key[1].startswith(TIMES)]
    files = [{path.name: path.read_bytes() for path in (run / "trajectories").iterdir()} for run in (a, b)]
    names = files[0].keys() | files[1].keys()
    return {
        "weight tensors": (sum(not torch.equal(first[name], second[name]) for name in first), len(first)),
        "metrics": (sum(values[0].get(key) != values[1].get(key) for key in keys), len(keys)),
        "trajectory files": (sum(files[0].get(name) != files[1].get(name) for name in names), len(names)),
    }


def kill_and_resume(name: str, data: dict[str, Any], kills: int, seed: int, folder: Path, **policy: Any) -> None:
    """Print the lives of runs that are killed so many times, and what they differ in from one that was not."""
    whole = folder / f"{name}-whole"
    undisturbed = live(config_of(data, whole, **policy), None)
    rng = np.random.default_rng(seed)
    print(f"\n{name}, {' '.join(f'{key}={value}' for key, value in policy.items())}")
    print(f"undisturbed: {undisturbed.seconds:.1f} s, {undisturbed.num_steps} steps")
    print("Each kill: seconds of that life, steps in metrics, completions on record of the last checkpoints.")
    left = kills
    for number in itertools.count(1):  # a directory of its own for each run, whether it was killed or not
        if not left:
            break
        config = config_of(data, folder / f"{name}-{number}", **policy)
        lives: list[Life] = []
        while left and (not lives or lives[-1].is_killed):
            lives.append(live(config, float(rng.uniform(0, undisturbed.seconds * LONGEST_LIFE))))
            left -= lives[-1].is_killed
        if lives[-1].is_killed:
            lives.append(live(config, None))
        if len(lives) == 1:
            continue  # it ended before its moment came, and shows nothing
        shown = ", ".join(f"{life.seconds:.1f} s/{life.num_steps}/{life.num_recorded}" for life in lives[:-1])
        print(f"{len(lives) - 1} kills: {shown}")
        counts = differences(whole, Path(config.run.out or ""))
        print("    differ: " + ", ".join(f"{n} of {count} {what}" for what, (n, count) in counts.items()), flush=True)


def sampling_speed(is_invariant: bool, concurrency: int, episodes: Sequence[rollout_speed.Episode]) -> float:
    """Tokens a second of processor time, with one thread."""
    model = rollout_speed.make_model(2)
    policy = HFPolicy(model, max_concurrency=concurrency, num_threads=1, is_invariant=is_invariant)
    places = asyncio.Semaphore(concurrency)

    async def play(episode: rollout_speed.Episode) -> int:
        row: list[int] = []
        async with places:
            for turn, context in enumerate(episode.contexts):
                row += context
                row += (await policy.sample(rollout_speed.request(episode, row, turn))).ids
            policy.release(episode.name)
        return len(episode.contexts) * rollout_speed.ACTION_TOKENS

    async def play_all() -> int:
        return sum(await asyncio.gather(*(play(episode) for episode in episodes)))

    start = time.process_time()
    count = asyncio.run(play_all())
    return count / (time.process_time() - start)


def print_price() -> None:
    """The price of invariance, and of a line of the journal."""
    episodes = rollout_speed.make_episodes(64, 40, 0)
    print("\nepisodes at once   tokens/s   deterministic   ratio   (processor time, one thread)")
    for concurrency, number in ((64, 64), (8, 16), (1, 3)):
        plain, exact = (max(sampling_speed(each, concurrency, episodes[:number]) for _ in range(3)) for each in (0, 1))
        print(f"{concurrency:>16}{plain:>11.0f}{exact:>16.0f}{exact / plain:>8.2f}")
    prompt = list(range(400))
    request = rollout_speed.request(rollout_speed.Episode("3.0/some-task-id/4", ()), prompt, 3)
    completion = Completion(tuple(range(6)), (-0.123456789,) * 6, "stop", 3)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        start = time.process_time()
        for _ in range(20_000):
            journal.append("3.0/some-task-id/4", request_digest(request, "w" * 16), completion)
        each_s = (time.process_time() - start) / 20_000
        size = next(Path(folder).iterdir()).stat().st_size / 20_000
    print(f"a line of the journal (prompt of 400 tokens, 6 sampled): {each_s * 1e6:.0f} us, {size:.0f} bytes")


def print_replay(folder: Path) -> None:
    """The time of two steps of household tasks that are sampled, and of the same steps from their journal."""
    data = alfworld_config()
    data["trainer"] = {**data["trainer"], "steps": 2}
    data["eval"] = {"num_tasks": 0}
    data["run"] = {"checkpoint_every": 2}
    config = config_of(data, folder / "replay")
    train(config)
    sampled = read_metrics(folder / "replay/metrics.jsonl")
    for path in (folder / "replay/checkpoints").iterdir():
        path.rename(folder / path.name)
    train(config, resume=folder / "replay")
    replayed = read_metrics(folder / "replay/metrics.jsonl")
    before, after = (sum(row["time/rollout_s"] for row in rows) for rows in (sampled, replayed))
    count = sum(row["resume/replayed"] for row in replayed)
    print(
        f"\nhousehold tasks, {count:.0f} completions: rollouts {before:.2f} s sampled, {after:.2f} s from the journal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="switch,alfworld,price,replay")
    args = parser.parse_args()
    print(describe())
    chosen = args.only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "switch" in chosen:
            policy = made_in_a_child(folder / "policy")
            kill_and_resume("light switch", switch_config(policy), args.kills, args.seed, folder, deterministic=True)
        if "alfworld" in chosen:
            kill_and_resume("household tasks", alfworld_config(), args.kills, args.seed, folder, deterministic=True)
        if "price" in chosen:
            print_price()
        if "replay" in chosen:
            print_replay(folder)


def made_in_a_child(policy: Path) -> Path:
    """The small policy, made in a process of its own: this one must not have computed anything before it forks."""
    pid = os.fork()
    if pid == 0:
        from tests.light_switch import make_policy

        make_policy(policy)
        os._exit(0)
    os.waitpid(pid, 0)
    return policy


if __name__ == "__main__":
    main()
