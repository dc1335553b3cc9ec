"""From configuration sections to the things that roll out: card, device, model, workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from agentgym_rft import registry
from agentgym_rft.agents.card import AgentCard, parse_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model, seed_policy_path
from agentgym_rft.config import AgentSection, Config, PolicySection, find_yaml, merge, read_yaml
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.local import LocalWorkers


def load_card(section: AgentSection) -> AgentCard:
    """The agent card of a run: the named one with the overrides laid over it. Raises `ConfigError`."""
    return parse_card(merge(read_yaml(find_yaml("agents", section.card)), section.overrides))


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where it is present. Raises `ConfigError` for one this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"'{name}' is no device. Write auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"Device '{name}' is not there: this machine has {torch.cuda.device_count()} CUDA devices.")
    return device


def load_policy_model(section: PolicySection, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a policy, on its device; sets torch's thread count if the section does.

    Args:
        dtype: of the weights; default: bfloat16 on CUDA, float32 elsewhere.
    Raises:
        DataError: the directory holds no usable model.
        PolicyError: this installation has no seed policy.
        ConfigError: the device is not there.
    """
    if section.num_threads is not None:
        torch.set_num_threads(section.num_threads)
    device = find_device(section.device)
    path = seed_policy_path() if section.path == "seed" else Path(section.path)
    return load_model(path, device=device, dtype=dtype)


def make_workers(config: Config, tokenizer: Any, policy: Policy) -> LocalWorkers:
    """Workers in this process that play the run's environment with its agent card."""
    return LocalWorkers(
        partial(registry.make, config.env.id, **config.env.options),
        load_card(config.agent),
        tokenizer,
        policy,
        max_concurrency=config.policy.max_concurrency,
        max_context=config.policy.max_context,
    )


def open_workers(config: Config) -> LocalWorkers:
    """Workers with a policy of their own, for evaluation."""
    model, tokenizer = load_policy_model(config.policy)
    section = config.policy
    policy = HFPolicy(model, max_concurrency=section.max_concurrency, max_context=section.max_context)
    return make_workers(config, tokenizer, policy)
