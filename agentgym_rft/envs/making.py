"""Environments by name, ready to be played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym_rft import registry
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError


def make_env(id: str, options: Mapping[str, Any]) -> TextEnv:
    """A new environment.

    Args:
        id: a registered id, short name, or `module:Class`.
        options: keyword arguments of its class.
    Raises:
        RegistryError: there is no such environment.
        ConfigError: it does not take these options, or is no text environment.
    """
    env = registry.make(id, **options)
    if not isinstance(env, TextEnv):
        raise ConfigError(
            f"Environment '{id}' makes a {type(env).__name__}, expected a subclass of agentgym_rft.envs.TextEnv."
        )
    return env
