"""The ways to play that benchmarks/scale.py compares: ours with a scripted player, and what others do."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scale_env import ScaleEnv, scripted_policy

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.seeds import seed_policy_path
from agentgym_rft.config.run import Config
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.process.pool import Processes
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.rollouts.workers.local import LocalWorkers

CORES = len(os.sched_getaffinity(0))
ENV = "scale_env:ScaleEnv"
AT_ONCE = 32  # episodes of one worker
LOCKSTEP_ENVS = 16  # of AsyncVectorEnv and of one actor per environment
_CONTEXT = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One timed piece of work."""

    num_steps: int
    wall_s: float
    driver_cpu_s: float  # of this process

    @property
    def step_us(self) -> float:
        return self.wall_s / self.num_steps * 1e6

    @property
    def driver_us(self) -> float:
        return self.driver_cpu_s / self.num_steps * 1e6


def timed(work: Callable[[], int]) -> Measured:
    """`work` gives the number of its environment steps."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    num_steps = work()
    return Measured(num_steps, time.perf_counter() - wall_s, time.process_time() - cpu_s)


def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(seed_policy_path("seed"))


def episodes(workers: Workers, task_id: str, number: int, num_steps: int) -> int:
    """Play episodes of so many steps, as many at once as there are places. Returns the steps of all."""
    spec = EpisodeSpec(task_id, "g", "", 0, 1.0, num_steps, _CONTEXT)

    async def play() -> int:
        specs = [replace(spec, episode_id=f"e{i}", seed=i) for i in range(number)]
        trajectories = await asyncio.gather(*(workers.play(each) for each in specs))
        errors = Counter(t.stop_reason for t in trajectories if t.is_error)
        assert not errors, f"episodes broke: {errors}"
        return sum(len(t.turns) for t in trajectories)

    return workers.run(play)


def local_workers(concurrency: int = AT_ONCE) -> LocalWorkers:
    """`LocalWorkers` with environments in this process."""
    return _local(ScaleEnv, concurrency)


def process_workers(num_processes: int, at_once: int = AT_ONCE) -> LocalWorkers:
    """`LocalWorkers` with environments in processes, so many episodes at once in each."""
    processes = Processes(num_processes, timeout_s=60)
    return _local(partial(ProcessEnv, ENV, processes=processes, lazy=True), num_processes * at_once)


def _local(make_env: Callable[[], Any], concurrency: int) -> LocalWorkers:
    tokens, card = tokenizer(), load_card(Config().agent)
    policy = scripted_policy(tokens)
    return LocalWorkers(make_env, card, tokens, policy, max_concurrency=concurrency, max_context=_CONTEXT)


@contextmanager
def ray_workers(num_workers: int) -> Iterator[Callable[[int], Workers]]:
    """Workers on Ray with a scripted policy in each. What is given makes `RayWorkers` of the first few of them."""
    import ray
    from scale_actor import ScriptedWorker

    from agentgym_rft.rollouts.ray.actor_group import ActorGroup, Budget, Newest
    from agentgym_rft.rollouts.ray.setup import Setup
    from agentgym_rft.rollouts.ray.workers import RayWorkers

    start_ray()
    base = Config()
    section = base.rollout.ray.model_copy(update={"num_workers": num_workers, "episodes_per_worker": AT_ONCE})
    config = base.model_copy(
        update={
            "env": base.env.model_copy(update={"id": ENV}),
            "rollout": base.rollout.model_copy(update={"ray": section}),
            "policy": base.policy.model_copy(update={"max_concurrency": AT_ONCE, "max_context": _CONTEXT}),
        }
    )
    tokens = tokenizer()
    setup = ray.put(Setup(config, tokens, None, True))
    spawn = ray.remote(ScriptedWorker).options(num_cpus=0, max_concurrency=AT_ONCE + 16).remote

    def group() -> ActorGroup:
        return ActorGroup("worker", spawn, setup, Newest(), Budget(0), Counter[str](), 300.0)

    everybody = group()
    everybody.begin(num_workers)
    everybody.await_all()

    def first(number: int) -> Workers:
        some = group()
        some.members = everybody.members[:number]
        return RayWorkers(config, load_card(config.agent), tokens, some)

    try:
        yield first
    finally:
        everybody.end()


def start_ray() -> None:
    """Ray on this machine, once."""
    import ray

    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def plain_loop(task_id: str, num_steps: int) -> int:
    """One environment in this process, and nothing around it."""
    env = ScaleEnv()
    env.reset(options={"task_id": task_id})
    for _ in range(num_steps):
        env.step("go to door 1")
    return num_steps


@contextmanager
def vector_env() -> Iterator[Callable[[str, int], int]]:
    """gymnasium's `AsyncVectorEnv`: a process for each environment, all in lockstep."""
    from gymnasium.vector import AsyncVectorEnv

    envs = AsyncVectorEnv([ScaleEnv] * LOCKSTEP_ENVS, shared_memory=False)

    def play(task_id: str, num_steps: int) -> int:
        envs.reset(options={"task_id": task_id})
        for _ in range(num_steps // LOCKSTEP_ENVS):
            envs.step(["go to door 1"] * LOCKSTEP_ENVS)
        return num_steps // LOCKSTEP_ENVS * LOCKSTEP_ENVS

    try:
        yield play
    finally:
        envs.close()


@contextmanager
def actor_per_env() -> Iterator[Callable[[str, int], int]]:
    """One Ray actor for each environment, all in lockstep, as verl-agent's environment manager does it."""
    import ray

    start_ray()
    actors = [ray.remote(ScaleEnv).options(num_cpus=0).remote() for _ in range(LOCKSTEP_ENVS)]
    ray.get([actor.reset.remote() for actor in actors])

    def play(task_id: str, num_steps: int) -> int:
        ray.get([actor.reset.remote(options={"task_id": task_id}) for actor in actors])
        for _ in range(num_steps // LOCKSTEP_ENVS):
            ray.get([actor.step.remote("go to door 1") for actor in actors])
        return num_steps // LOCKSTEP_ENVS * LOCKSTEP_ENVS

    try:
        yield play
    finally:
        for actor in actors:
            ray.kill(actor)
