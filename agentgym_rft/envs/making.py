"""Environments by name, ready to be played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym_rft import registry
from agentgym_rft.envs.adapter import as_text_env
from agentgym_rft.envs.base import TextEnv


def make_env(id: str, options: Mapping[str, Any] | None = None) -> TextEnv:
    """A new environment; a plain gymnasium environment with text spaces comes in an adapter (`GymTextEnv`).

    Args:
        id: a registered id, short name, or `module:Class`.
        options: keyword arguments of its class.
    Raises:
        RegistryError: there is no such environment.
        ConfigError: it does not take these options, or is no text environment.
    """
    full_id = registry.resolve_env_id(id)
    given = dict(options or {})
    defaults = {} if ":" in full_id else registry.env_spec(full_id).kwargs
    return as_text_env(registry.make(full_id, **given), full_id, {**defaults, **given})
