"""What every actor is told when it begins, and how it makes its policy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.config.run import Config
from agentgym_rft.rollouts.policies import load_policy_model, policy_section, serve, with_frozen
from agentgym_rft.rollouts.ray.packing import Packed, unpack


@dataclass(frozen=True, slots=True)
class Setup:
    """The run's configuration as this kind of actor needs it, and what does not follow from it."""

    config: Config
    tokenizer: Any
    dtype: torch.dtype | None
    has_policy: bool  # False: a worker whose policy is behind replicas


@dataclass(frozen=True, slots=True)
class Location:
    """Where an actor runs: the process on its node, and Ray's id of that node."""

    pid: int
    node: str


def location() -> Location:
    """Where the actor runs in which this is called."""
    import ray

    return Location(os.getpid(), str(ray.get_runtime_context().get_node_id()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What an episode gave, and the faults that a worker counted since its last answer."""

    value: Any
    faults: dict[str, int]


def open_policy(setup: Setup, packed: Packed | None, version: int) -> Policy:
    """The policy of the configuration, with the newest weights if there are newer ones than its directory has.

    New weights may come while it samples: what was cut off by the driver may still be running then. Policies that only
    play in some seats are beside it.
    """
    model, _ = load_policy_model(setup.config.policy, setup.dtype)
    own = serve(model, policy_section(setup.config), spans_versions=True)
    policy = with_frozen(setup.config, {"": own}, setup.dtype)
    if packed is not None:
        policy.load(unpack(packed), version)
    return policy
