"""From a configuration to workers on Ray. Ray itself is imported only after it is known to be there."""

from __future__ import annotations

from typing import Any

import torch

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.config.run import Config
from agentgym_rft.rollouts.ray.cluster import connect
from agentgym_rft.rollouts.reflection.reflectors import Reflector
from agentgym_rft.rollouts.seats import Cast
from agentgym_rft.rollouts.workers.base import Workers


def open_ray_workers(
    config: Config,
    card: AgentCard,
    tokenizer: Any,
    *,
    reflector: Reflector | None = None,
    cast: Cast = (),
    dtype: torch.dtype | None = None,
) -> Workers:
    """Connect to Ray, or start it, and bring up workers and replicas as `rollout.ray` says.

    Args:
        reflector: who reflects on episodes, in this process; by default the policy itself.
        cast: the seats of an environment with several agents.
        dtype: of the policy's weights; default: bfloat16 on CUDA, float32 elsewhere.
    Raises:
        ConfigError: Ray is not installed, does not answer, or has no room; a worker cannot be set up.
        AgentGymError: what the environment or policy of a worker refused.
    """
    disconnect = connect(config.rollout.ray)
    try:
        from agentgym_rft.rollouts.ray.hiring import hire
        from agentgym_rft.rollouts.ray.workers import RayWorkers

        workers, replicas = hire(config, tokenizer, dtype)
        return RayWorkers(
            config, card, tokenizer, workers, replicas, reflector=reflector, disconnect=disconnect, cast=cast
        )
    except BaseException:
        disconnect()
        raise
