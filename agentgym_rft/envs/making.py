"""Makes environments by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from agentgym_rft import registry
from agentgym_rft.envs.adapters.gym import as_text_env
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.turns import TurnsEnv


def seats_of(id: str, options: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """Return the agents of an environment with their roles; none where it has one agent.
    Raises what `make_env` does.
    """
    made = registry.entry_point(id)
    if isinstance(made, type) and issubclass(made, gym.Env):
        return made.seats if issubclass(made, TextEnv) else {}
    env = make_env(id, options)
    close_env(env)
    return env.seats


def has_noop(id: str, options: Mapping[str, Any] | None = None) -> bool:
    """Return True if the agents of an environment have an action that does nothing. Raises what `make_env` does."""
    env = make_env(id, options)
    close_env(env)
    if not isinstance(env, TurnsEnv):
        return False
    from agentgym_rft.envs.multi_agent import TextAECEnv  # imports PettingZoo, which one agent has no use for

    return type(env.env).noop is not TextAECEnv.noop


def make_env(id: str, options: Mapping[str, Any] | None = None) -> TextEnv:
    """Return a new environment; a plain gymnasium environment with text spaces comes in an adapter (`GymTextEnv`).

    Args:
        id: a registered id, short name, or `module:Class`.
        options: keyword arguments of its class.
    Raises:
        RegistryError: there is no such environment.
        ConfigError: it does not take these options, or is no text environment.
    """
    full_id = registry.resolve_env_id(id)
    given = dict(options or {})
    return as_text_env(registry.make(full_id, **given), full_id, {**registry.env_spec(full_id).kwargs, **given})
