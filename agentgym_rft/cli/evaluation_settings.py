"""From the flags of `eval`, `crossplay` and `bench` to a configuration: a run's or a recipe's, with what was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgym_rft import registry
from agentgym_rft.agents.policies.names import model_name
from agentgym_rft.agents.policies.seeds import is_seed
from agentgym_rft.cli.settings import DEFAULT_ENV, fresh_config, is_run_dir, read_run_config, with_full_names
from agentgym_rft.config.load import merge, parse_value, validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError

ENV_OPTION = "KEY=VALUE, an argument of the environment, such as num_agents=1. Repeatable."


def given_values(**values: Any) -> dict[str, Any]:
    """Return the flags that were given."""
    return {key: value for key, value in values.items() if value is not None}


def base_settings(policy: str, env: str | None) -> dict[str, Any]:
    """Return the run's configuration if `policy` is a run, else the environment's recipe, with `policy` in it."""
    named = {"policy": {"path": policy}}
    path = _run_of(model_name(policy))
    if is_seed(model_name(policy)) or not is_run_dir(path):
        return merge(fresh_config(env or DEFAULT_ENV, None, ()).model_dump(), named)
    config = with_full_names(validate_config(read_run_config(path))).model_dump()
    if env is not None and registry.resolve_env_id(env) != config["env"]["id"]:
        config["env"] = {"id": env}
    return merge(config, named)


def _run_of(name: str) -> Path:
    """Return the directory in a model's name, which may be RUN#ROLE."""
    if "#" not in name:
        return Path(name)
    from agentgym_rft.store.run_policies import split_role

    return split_role(name)[0]


def merge_settings(
    base: dict[str, Any], updates: dict[str, dict[str, Any]], data: str | None, card: str | None
) -> Config:
    """Return the configuration of an evaluation. Another card comes without the overrides of the old one."""
    settings = merge(base, updates)
    if data is not None:
        settings = merge(settings, {"env": {"options": {"data": data}}})
    if card is not None:
        settings["agent"] = {"card": card}
    return with_full_names(validate_config(settings))


def with_env_options(base: dict[str, Any], given: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings with the environment's arguments `KEY=VALUE`. Raises `ConfigError`."""
    for text in given or ():
        key, mark, value = text.partition("=")
        if not (mark and key):
            raise ConfigError(f"--env-option is '{text}'; expected KEY=VALUE.")
        base = merge(base, {"env": {"options": {key: parse_value(f"--env-option {key}", value)}}})
    return base
