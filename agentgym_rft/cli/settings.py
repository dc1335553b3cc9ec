"""Makes a configuration from command-line flags: default recipes, shorthands, resumed runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentgym_rft import registry
from agentgym_rft.agents.policies.names import model_name
from agentgym_rft.agents.policies.seeds import SEED, full_policy_name, is_seed, seed_policy_path, short_name
from agentgym_rft.cli.options import Override
from agentgym_rft.config.load import (
    load_config,
    merge,
    nest,
    read_config,
    read_yaml,
    shipped_dir,
    validate_config,
    validate_sft_config,
)
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import CheckpointError, ConfigError
from agentgym_rft.report.terminal import say
from agentgym_rft.store.under_way import is_disk_error

DEFAULT_ENV = "agentgym/ALFWorld-v0"


def default_recipe(env: str) -> str | None:
    """Return the shipped recipe named like an environment, if there is one.
    Raises `RegistryError` for an unknown one.
    """
    env_id = registry.resolve_env_id(env)
    if ":" in env_id:
        return None
    name = registry.env_spec(env_id).short_name
    return name if (shipped_dir("trainers") / f"{name}.yaml").is_file() else None


def fresh_config(env: str | None, recipe: str | None, overrides: Sequence[Override]) -> Config:
    """Return the configuration of a new run: the environment's own recipe, recipe, environment, overrides, in this
    order.

    `env.id` is the full id afterwards. Raises `ConfigError` or `RegistryError`.
    """
    base = default_recipe(env or _env_in(overrides) or DEFAULT_ENV)
    named = [(("env", "id"), env)] if env is not None else []
    return with_full_names(load_config(recipe or base, [*named, *overrides], base))


def with_shorthands(
    paths: Mapping[str, tuple[str, ...]], values: Mapping[str, str | int | None], overrides: Sequence[Override]
) -> list[Override]:
    """Return the overrides together with the short options that were given, by their names.

    Raises `ConfigError` if a key is given by its short and by its long name.
    """
    given = {name: value for name, value in values.items() if value is not None}
    long_names = {tuple(path) for path, _ in overrides}
    for name in given:
        if paths[name] in long_names:
            raise ConfigError(f"--{name} is short for --{'.'.join(paths[name])}: give one of the two.")
    return [*((paths[name], value) for name, value in given.items()), *overrides]


def resumed_config(run_dir: Path, overrides: Sequence[Override]) -> Config:
    """Return the configuration of a run that goes on in its own directory, with overrides laid over it.

    Raises:
        CheckpointError: the directory holds no run, or a supervised one.
        ConfigError: the configuration is damaged, or asks for another directory or environment.
    """
    data = read_run_config(run_dir)
    if "sft" in data:
        raise CheckpointError(f"'{run_dir}' holds a supervised run. Go on with: agentgym sft --resume {run_dir}")
    env_id = with_full_names(validate_config(data)).env.id
    config = with_full_names(validate_config(_resumed(data, run_dir, overrides)))
    _check_same_env(config.env.id, env_id)
    return config


def resumed_sft_config(run_dir: Path, overrides: Sequence[Override]) -> SftConfig:
    """Return the configuration of a supervised run that goes on, as `resumed_config` does."""
    data = read_run_config(run_dir)
    if "sft" not in data:
        raise CheckpointError(f"'{run_dir}' holds no supervised run. Go on with: agentgym train --resume {run_dir}")
    env_id = registry.resolve_env_id(validate_sft_config(data).env.id)
    config = validate_sft_config(_resumed(data, run_dir, overrides))
    _check_same_env(registry.resolve_env_id(config.env.id), env_id)
    return config


def _resumed(data: Mapping[str, object], run_dir: Path, overrides: Sequence[Override]) -> dict[str, object]:
    """Return a run's configuration with overrides and its directory. Raises `ConfigError` if another is asked for."""
    for path, value in overrides:
        if tuple(path) == ("run", "out") and Path(value) != run_dir:
            raise ConfigError("A resumed run goes on in its own directory: leave out --out, or leave out --resume.")
        data = merge(data, nest(path, value))
    return merge(data, {"run": {"out": str(run_dir)}})


def _check_same_env(asked: str, env_id: str) -> None:
    if asked != env_id:
        raise ConfigError(f"A resumed run keeps its environment, '{env_id}': leave out --env.id.")


def read_run_config(run_dir: Path) -> dict[str, object]:
    """Return the content of a run's `config.yaml`. Raises `CheckpointError` if it is no run, or the file is empty."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"There is no run in '{run_dir}': it has no config.yaml.")
    data = read_config(path)
    if not data:
        raise CheckpointError(f"The run in '{run_dir}' is damaged: its config.yaml is empty.")
    return data


def check_out(out: Path) -> None:
    """Refuse a file that cannot be written now, not after the work."""
    if out.is_dir():
        raise ConfigError(f"Cannot write '{out}': it is a directory. Give --out a file.")
    if not out.parent.is_dir():
        raise ConfigError(f"Cannot write '{out}': there is no directory '{out.parent}'.")
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise ConfigError(f"Cannot write '{out}': {error.strerror}. Choose another --out.") from error


def is_piped(out: Path | None) -> bool:
    """Return True if a result goes to stdout as JSON, and its table therefore to stderr."""
    return out is None and not sys.stdout.isatty()


def place_in(run: Path, name: str) -> Path:
    """Return where a file about a run goes by default: into the run, or into the current folder where a run may only be
    read.
    """
    try:
        tempfile.TemporaryFile(dir=run).close()
    except OSError as error:
        if is_disk_error(error):
            return Path(f"{run.resolve().name}-{name}")
    return run / name


def is_run_dir(path: Path) -> bool:
    """Return True for the directory of a training run, false for that of a model or of a supervised run."""
    if not (path / "config.yaml").is_file() or (path / "model").is_dir():
        return False
    return "sft" not in read_yaml(path / "config.yaml")


def with_full_names(config: Config) -> Config:
    """Return the configuration with `env.id` and the environment's seed policy resolved. Raises `RegistryError`."""
    env_id = registry.resolve_env_id(config.env.id)
    update: dict[str, object] = {"env": config.env.model_copy(update={"id": env_id})}
    path = full_policy_name(config.policy.path, env_id)
    if path != config.policy.path:
        update["policy"] = config.policy.model_copy(update={"path": path})
    return config.model_copy(update=update)


def say_whose_seed(config: Config) -> None:
    """Print a line on stderr if the seed policy of another environment is going to play.

    Raises `RegistryError` or `DataError` if there is no such environment or seed policy, and prints nothing then.
    """
    env_id, policy = config.env.id, model_name(config.policy.path)
    if not is_seed(policy) or policy == f"{SEED}:{short_name(env_id)}":
        return
    seed_policy_path(policy)
    if ":" in env_id:
        registry.load_object(env_id)
    say(f"'{policy}' plays, which knows nothing of {env_id}. Name another with --policy.", err=True, fg="yellow")


def _env_in(overrides: Sequence[Override]) -> str | None:
    return next((str(value) for path, value in overrides if tuple(path) == ("env", "id")), None)
