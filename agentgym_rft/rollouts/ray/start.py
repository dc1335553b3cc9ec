"""Starts workers on Ray from a configuration. Ray is imported only after a check that it is installed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.config.run import Config
from agentgym_rft.rollouts.policies import refused_as_data
from agentgym_rft.rollouts.ray.cluster import connect
from agentgym_rft.rollouts.ray.setup import Setup
from agentgym_rft.rollouts.reflection.reflectors import Reflector
from agentgym_rft.rollouts.seats import open_agents
from agentgym_rft.rollouts.workers.base import Workers

if TYPE_CHECKING:
    from agentgym_rft.rollouts.ray.actor_group import ActorGroup

_SPARE_CALLS = 16  # calls beside episodes: weights, replicas, and `live`, which never returns while the actor lives


def open_ray_workers(
    config: Config, tokenizer: Any, *, reflector: Reflector | None = None, dtype: torch.dtype | None = None
) -> Workers:
    """Connect to Ray, or start it, and bring up workers and replicas as `rollout.ray` says.

    Args:
        reflector: reflects on episodes, in this process; by default the policy itself.
        dtype: of the policy's weights; default: bfloat16 on CUDA, float32 elsewhere.
    Raises:
        ConfigError: the card is wrong; Ray is missing, does not answer, or has no room; a worker cannot be set up.
        DataError: the tokenizer's chat template cannot be used.
        AgentGymError: a worker cannot make its environment or policy.
    """
    card = load_card(config.agent)
    with refused_as_data(config.policy.path):
        agents = open_agents(config, tokenizer)
        disconnect = connect(config.rollout.ray)
        try:
            from agentgym_rft.rollouts.ray.workers import RayWorkers

            workers, replicas = start_actors(config, tokenizer, dtype)
            return RayWorkers(
                config, card, tokenizer, workers, replicas, reflector=reflector, disconnect=disconnect, agents=agents
            )
        except BaseException:
            disconnect()
            raise


def start_actors(config: Config, tokenizer: Any, dtype: torch.dtype | None) -> tuple[ActorGroup, ActorGroup | None]:
    """Return the workers, all ready, and the replicas that they share, if they do.

    Raises:
        ConfigError: the cluster has no room for them, or one cannot be set up there.
        AgentGymError: an actor cannot make its environment or policy.
    """
    import ray

    from agentgym_rft.rollouts.ray.actor import RolloutWorker
    from agentgym_rft.rollouts.ray.actor_group import ActorGroup, Budget, Newest
    from agentgym_rft.rollouts.ray.replicas import PolicyReplica

    section = config.rollout.ray
    has_policy = section.policy_replicas == 0
    newest, budget, faults = Newest(), Budget(section.max_worker_restarts), Counter[str]()

    def group(kind: str, actor: type, num_gpus: float, num_calls: int, max_concurrency: int) -> ActorGroup:
        actor_config = _actor_config(config, num_gpus, max_concurrency)
        setup = ray.put(Setup(actor_config, tokenizer, dtype, has_policy))
        limits = {"num_cpus": section.num_cpus, "num_gpus": num_gpus, "max_concurrency": num_calls + _SPARE_CALLS}
        spawn = ray.remote(actor).options(**limits, scheduling_strategy="SPREAD").remote
        return ActorGroup(kind, spawn, setup, newest, budget, faults, section.start_timeout_s)

    at_once = section.episodes_per_worker
    workers = group("worker", RolloutWorker, section.num_gpus if has_policy else 0.0, at_once, at_once)
    replicas = None
    if not has_policy:
        rows, calls = config.policy.max_concurrency, at_once * section.num_workers
        replicas = group("replica", PolicyReplica, section.num_gpus, calls, rows)
    try:
        workers.begin(section.num_workers)
        if replicas is not None:
            replicas.begin(section.policy_replicas)
            replicas.await_all()
        workers.await_all()
        if replicas is not None:
            ray.get([worker.handle.set_replicas.remote(replicas.handles()) for worker in workers.members])
    except BaseException:
        for each in (workers, replicas):
            if each is not None:
                each.end()
        raise
    return workers, replicas


def _actor_config(config: Config, num_gpus: float, max_concurrency: int) -> Config:
    """Return the run's configuration, changed for an actor: it plays in its own process, on the device that Ray gives
    it.
    """
    rollout, policy = config.rollout, config.policy
    changes = {
        "num_threads": max(1, int(rollout.ray.num_cpus)),
        "max_concurrency": max_concurrency,
        "device": "cpu" if num_gpus == 0 and policy.device == "auto" else policy.device,
    }
    # In a process of its own, an environment that hangs or crashes takes that down, not the worker.
    workers = "local" if rollout.processes.num_processes is None else "processes"
    own = rollout.model_copy(update={"workers": workers})
    return config.model_copy(update={"policy": policy.model_copy(update=changes), "rollout": own})
