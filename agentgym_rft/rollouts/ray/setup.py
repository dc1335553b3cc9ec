"""The settings that every actor starts with, and how it makes its policy."""

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
    """The settings of an actor: the run's configuration, changed for this kind of actor, and what is not part of it."""

    config: Config
    tokenizer: Any
    dtype: torch.dtype | None
    has_policy: bool  # False: the worker's requests go to replicas


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an actor: the process on its node, and Ray's id of that node."""

    pid: int
    node: str


def location() -> Location:
    """Return the location of the actor that calls this."""
    import ray

    return Location(os.getpid(), str(ray.get_runtime_context().get_node_id()))


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call, and the faults that the worker counted since its last answer."""

    value: Any
    faults: dict[str, int]


def open_policy(setup: Setup, packed: Packed | None, version: int) -> Policy:
    """Make the policy of the configuration, with newer weights than those of its directory if there are any.

    It accepts new weights while it samples, because requests that the driver has given up may still run. Policies that
    are not trained and play some of the agents are loaded beside it.
    """
    model, _ = load_policy_model(setup.config.policy, setup.dtype)
    own = serve(model, policy_section(setup.config), spans_versions=True)
    policy = with_frozen(setup.config, {"": own}, setup.dtype)
    if packed is not None:
        policy.load(unpack(packed), version)
    return policy
