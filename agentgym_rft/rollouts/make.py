"""Makes the workers that play episodes, and what they need, from the configuration."""

from __future__ import annotations

from typing import Any

import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.config.run import Config
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.rollouts.policies import load_policy_model, policy_section, refused_as_data, serve
from agentgym_rft.rollouts.reflection.chat import Completer
from agentgym_rft.rollouts.reflection.endpoint import EndpointReflector
from agentgym_rft.rollouts.reflection.reflectors import HindsightReflector, Reflector, SpokenReflector
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.rollouts.workers.local import make_local_workers


def make_workers(
    config: Config,
    tokenizer: Any,
    policy: Policy | None,
    reflector: Reflector | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Workers:
    """Return workers that play the run's environment, wherever it runs, with its agent card.

    Without a `reflector`, the policy reflects on its own episodes, where the strategy asks for it.

    Args:
        policy: plays the episodes; None with `rollout.workers=ray`, whose processes make their own.
        dtype: of their weights, as `load_policy_model` takes it.
    Raises:
        ConfigError: there is no such card, or it is wrong; workers on Ray cannot be had.
        DataError: the tokenizer's chat template cannot be used.
    """
    if config.rollout.workers != "ray":
        assert policy is not None, "only workers on Ray make their own policy"
        return make_local_workers(config, tokenizer, policy, reflector)
    from agentgym_rft.rollouts.ray.start import open_ray_workers

    return open_ray_workers(config, tokenizer, reflector=reflector, dtype=dtype)


def make_reflector(config: Config) -> Reflector | None:
    """Return the reflector that `rollout.reflect.reflector` names.

    None stands for the policy itself, and for a strategy that does not read the section.

    Raises:
        ConfigError: it is an endpoint without an http address.
        DataError, CheckpointError: it is a policy that cannot be used.
    """
    kind, _, rest = config.rollout.reflect.reflector.partition(":")
    if kind == "self" or "rollout.reflect" not in STRATEGIES.lookup(config.rollout.strategy).reads:
        return None
    if kind == "hindsight":
        env = make_env(config.env.id, config.env.options)
        close_env(env)
        return HindsightReflector(env.lesson) if env.has_lessons else HindsightReflector()
    card = load_card(config.agent)
    if kind == "openai":
        model, _, url = rest.partition("@")
        return EndpointReflector(card, model, url)
    section = config.policy.model_copy(update={"path": rest})
    network, tokenizer = load_policy_model(section)
    with refused_as_data(rest):
        completer = Completer(chat_format(tokenizer, card), serve(network, section), section.max_context)
    return SpokenReflector(card, completer.reply, is_own=False)


def open_workers(config: Config) -> Workers:
    """Return workers with a policy of their own, for evaluation."""
    return workers_of(config, *load_policy_model(config.policy))


def workers_of(config: Config, model: Any, tokenizer: Any) -> Workers:
    """Return the same with a policy that is loaded already."""
    on_ray = config.rollout.workers == "ray"
    return make_workers(config, tokenizer, None if on_ray else serve(model, policy_section(config)))
