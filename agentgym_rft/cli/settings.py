"""From command-line flags to a configuration: default recipes, shorthands, resumed runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgym_rft import registry
from agentgym_rft.cli.options import Override
from agentgym_rft.config import Config, load_config, merge, nest, read_yaml, shipped_dir, validate_config
from agentgym_rft.errors import CheckpointError, ConfigError

DEFAULT_ENV = "agentgym/ALFWorld-v0"


def default_recipe(env: str) -> str | None:
    """The shipped recipe named like an environment, if there is one. Raises `RegistryError` for an unknown one."""
    env_id = registry.resolve_env_id(env)
    if ":" in env_id:
        return None
    name = registry.env_spec(env_id).short_name
    return name if (shipped_dir("trainers") / f"{name}.yaml").is_file() else None


def fresh_config(env: str | None, recipe: str | None, overrides: Sequence[Override]) -> Config:
    """The configuration of a new run: recipe (default: the environment's own), environment, overrides, in this order.

    `env.id` is the full id afterwards. Raises `ConfigError` or `RegistryError`.
    """
    if recipe is None:
        recipe = default_recipe(env or _env_in(overrides) or DEFAULT_ENV)
    named = [(("env", "id"), env)] if env is not None else []
    return with_full_env_id(load_config(recipe, [*named, *overrides]))


def resumed_config(run_dir: Path, overrides: Sequence[Override]) -> Config:
    """The configuration of a run that goes on in its own directory, with overrides laid over it.

    Raises:
        CheckpointError: the directory holds no run.
        ConfigError: the configuration is damaged, or asks for another directory.
    """
    data = read_run_config(run_dir)
    for path, value in overrides:
        if tuple(path) == ("run", "out") and Path(value) != run_dir:
            raise ConfigError("A resumed run goes on in its own directory: leave out --out, or leave out --resume.")
        data = merge(data, nest(path, value))
    return with_full_env_id(validate_config(merge(data, {"run": {"out": str(run_dir)}})))


def read_run_config(run_dir: Path) -> dict[str, object]:
    """What `config.yaml` of a run directory holds. Raises `CheckpointError` if it is no run directory."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"There is no run in '{run_dir}': it has no config.yaml.")
    return read_yaml(path)


def is_run_dir(path: Path) -> bool:
    """True for the directory of a training run, false for that of a model."""
    return (path / "config.yaml").is_file() and (path / "checkpoints").is_dir()


def with_full_env_id(config: Config) -> Config:
    """The configuration with `env.id` resolved. Raises `RegistryError`."""
    env = config.env.model_copy(update={"id": registry.resolve_env_id(config.env.id)})
    return config.model_copy(update={"env": env})


def _env_in(overrides: Sequence[Override]) -> str | None:
    return next((str(value) for path, value in overrides if tuple(path) == ("env", "id")), None)
