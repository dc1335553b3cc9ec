"""Makes the environments of a run: in this process, or in a few processes that they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from agentgym_rft.config.run import Config
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.process.pool import Processes


def env_maker(config: Config) -> Callable[[], TextEnv]:
    """Make environments as `rollout.workers` says.

    There are as many processes as cores, unless `rollout.processes.num_processes` says otherwise, and never more than
    episodes at once. Their Python hash seed is the run's seed, so that sets have the same order in all of them. A
    process ends with its last environment.
    """
    if config.rollout.workers != "processes":
        return partial(make_env, config.env.id, config.env.options)
    section = config.rollout.processes
    processes = Processes(
        min(section.num_processes or num_cores(), config.policy.max_concurrency),
        timeout_s=section.timeout_s,
        recycle_after=section.recycle_after,
        hash_seed=config.run.seed % 2**32,
    )
    return partial(ProcessEnv, config.env.id, config.env.options, processes=processes, lazy=True)


def num_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
